"""TVAE fits a small table: the script that is watched is the package's own loop."""

import numpy as np
import pandas as pd
from ctgan import TVAE

draw = np.random.default_rng(0)
table = pd.DataFrame({"age": draw.normal(40, 9, 60), "city": draw.choice(list("abc"), 60)})
TVAE(epochs=2, batch_size=20, enable_gpu=False).fit(table, ["city"])
