"""What the pages of the bug zoo say, in English and in Chinese."""

from pathlib import Path
from typing import NamedTuple

from benchmarks.zoo.bugs import ZOO
from vae_ref.support import messages

__all__ = ["CHINESE", "ENGLISH", "SYMPTOMS", "Words"]

SYMPTOMS = {
    "mean": (
        "nll-mean-over-everything",
        "nll-mean-over-pixels",
        "z-from-distribution-sample",
    ),
    "smoke": (
        "kl-mean-over-everything",
        "kl-mean-over-latents",
        "loss-sum-plus-batch-mean",
        "loss-no-kl",
        "loss-kl-detached",
        "kl-no-mu",
        "model-outputs-swapped",
    ),
    "bold": ("z-sigma-as-logvar", "z-mean", "z-uniform-noise"),
    "blurred": (
        "loss-beta-4",
        "z-noise-shared-over-batch",
        "model-one-head",
        "model-relu-on-mu",
        "model-relu-on-logvar",
    ),
    "nothing": (
        "kl-negated",
        "model-sigmoid-twice",
        "nll-half-of-bce",
        "nll-negated",
        "train-gradients-not-zeroed",
        "train-pixels-divided-twice",
    ),
    "right": (
        "loss-kl-halved",
        "kl-no-half",
        "kl-no-one",
        "kl-logvar-as-log-sigma",
        "z-sigma-exp-logvar",
        "z-mean-in-evaluation",
        "train-on-both",
        "train-first-batch-tested",
    ),
    "tiny": (
        "nll-mean-over-everything",
        "nll-mean-over-pixels",
        "kl-negated",
        "nll-half-of-bce",
        "nll-negated",
        "train-pixels-divided-twice",
        "train-first-batch-tested",
    ),
}
"""The bugs that look alike."""


class Words(NamedTuple):
    """The words of a page.

    Attributes:
        anchor: What its anchors begin with.
        images: The folder of the pictures, as the page sees it.
        head: The head of the table.
        right: The name of the right program.
        parts: The headings of the parts of a VAE, in the order of the page.
        curves: The names of the right program's loss, of the loss by the right formula and of
            the reported one.
        units: The units of the reported losses that are not in nats per test image.
        symptoms: What one sees, in the order of the page.
        epoch: The label of the first epoch.
        losses: What a plot shows.
        digits: What the first picture shows.
        draws: What the second picture shows.
        says: What follows what one sees: the kit's sentence, the claim, and the bug.
        seen: Where the bug was seen.
        between: What stands between these places, and between bugs.
        colon: What stands between a picture and its bug.
        bugs: The title of each bug, and what one sees of it.
        sentences: The kit's sentences, where they are not in English.
    """

    anchor: str
    images: str
    head: str
    right: str
    parts: dict[str, str]
    curves: tuple[str, str, str]
    units: dict[str, str]
    symptoms: dict[str, str]
    epoch: str
    losses: str
    digits: str
    draws: str
    says: str
    seen: str
    between: str
    colon: str
    bugs: dict[str, tuple[str, str]]
    sentences: dict[str, str]


ENGLISH = Words(
    anchor="zoo",
    images="images/zoo",
    head="| program | reported loss | loss by the right formula |",
    right="The right program",
    parts={
        "likelihood": "The reconstruction",
        "kl": "The KL divergence",
        "objective": "The loss as a whole",
        "reparameterization": "The sampler",
        "model": "The networks",
        "training": "The loop",
    },
    curves=("right program", "by the right formula", "its reported loss"),
    units={
        "nll-mean-over-everything": "a mean over all pixels, divided by the images",
        "nll-mean-over-pixels": "its reconstruction is per pixel",
        "train-first-batch-tested": "of 128 images, divided by all",
    },
    symptoms={
        "mean": "All draws are the mean image",
        "smoke": "The copies are good, the draws are smoke or dim",
        "bold": "The copies are good, the draws are bright, but many are no digits",
        "blurred": "The copies are blurred",
        "nothing": "The pictures are black, white or dots",
        "right": "It looks right",
        "tiny": "The loss is tiny or negative",
    },
    epoch="epoch 1",
    losses="losses by epoch",
    digits="Test digits over their reconstructions",
    draws="Draws from the prior",
    says=" The kit says: *{}.* {} exposes {}.",
    seen=" Seen in {}.",
    between="; ",
    colon=": ",
    bugs={bug.id: (bug.title, bug.looks) for bug in ZOO.values()},
    sentences={},
)

CHINESE = Words(
    anchor="zoo-zh",
    images="../images/zoo",
    head="| 程序 | 报告的损失 | 按正确公式的损失 |",
    right="正确的程序",
    parts={
        "likelihood": "重构",
        "kl": "KL 散度",
        "objective": "损失的整体",
        "reparameterization": "采样",
        "model": "网络",
        "training": "训练循环",
    },
    curves=("正确的程序", "它按正确公式的损失", "它报告的损失"),
    units={
        "nll-mean-over-everything": "整批像素的平均值，又除以图像数",
        "nll-mean-over-pixels": "重构按每个像素计",
        "train-first-batch-tested": "128 幅图像的和，除以全部图像数",
    },
    symptoms={
        "mean": "采样的图像全是平均图像",
        "smoke": "复制品很好，采样的图像却像烟雾，或者一片昏暗",
        "bold": "复制品很好，采样的图像笔画明亮，很多却不是数字",
        "blurred": "复制品模糊",
        "nothing": "画面全黑、全白，或者只有斑点",
        "right": "看不出毛病",
        "tiny": "损失小得出奇，或者是负数",
    },
    epoch="轮次 1",
    losses="每个轮次的损失",
    digits="测试图像和它们的复制品",
    draws="从先验取点，解码得到的图像",
    says="工具说：“{}”。能发现它的断言是 {}，它在错误库里叫 {}。",
    seen="见于 {}。",
    between="；",
    colon="：",
    bugs={
        "nll-mean-over-everything": (
            "交叉熵用了默认的平均",
            "损失小得出奇：它是一整批的平均值，程序还要再除以图像数。"
            "KL 散度压过了重构，编码里没有图像的信息，画出来的全是平均图像。",
        ),
        "nll-mean-over-pixels": (
            "重构对像素取平均，KL 散度求和",
            "重构按每个像素计，所以损失很小。KL 散度不是，它压过了重构，画出来的全是平均图像。",
        ),
        "kl-mean-over-everything": (
            "KL 散度对所有元素取平均",
            "损失更低，复制品比正确的程序还清晰，从先验采样得到的却像一团烟雾。",
        ),
        "kl-mean-over-latents": (
            "KL 散度对潜在变量取平均",
            "潜在变量有 20 个，KL 散度只算了二十分之一。复制品清晰，采样的图像却模糊不清。",
        ),
        "loss-sum-plus-batch-mean": (
            "KL 散度除以批大小",
            "训练时，KL 散度只算了 128 分之一；测试时，全部图像是一批，算得更少。"
            "损失更低，复制品更清晰，采样的图像像一团烟雾。",
        ),
        "loss-no-kl": (
            "没有 KL 散度",
            "复制品在这一页上数一数二。但编码的分布没有约束，与先验对不上，采样的图像不是数字。",
        ),
        "loss-kl-halved": (
            "KL 散度少了一半",
            "损失更低，复制品清晰一点，看不出任何毛病。",
        ),
        "loss-beta-4": (
            "忘了改回来的 beta",
            "采样的图像平滑，复制品模糊。有意为之，就是一种选择；做完实验忘了改回来，就是错误。",
        ),
        "loss-kl-detached": (
            "KL 散度只是一个数，没有梯度",
            "损失里有 KL 散度，却没有来自它的梯度。程序学着复制，KL 散度越来越大，损失不降反升。",
        ),
        "kl-no-half": (
            "KL 散度缺了 1/2",
            "KL 散度算了两遍。复制品略微模糊，看不出毛病。",
        ),
        "kl-negated": (
            "KL 散度的符号反了",
            "KL 散度越大，奖励越多，于是它一路发散。损失是这一页上最低的。",
        ),
        "kl-no-one": (
            "KL 散度缺了常数项 1",
            "模型是对的，错的只有损失：20 个潜在变量，每个多算了半奈特。",
        ),
        "kl-no-mu": (
            "KL 散度缺了 mu",
            "没有哪一项约束 mu 的大小。编码四散，从先验取的点落不到编码所在的地方。",
        ),
        "kl-logvar-as-log-sigma": (
            "KL 散度把 logvar 当成 log sigma",
            "肉眼看不出问题。但噪声的 sigma 是 exp(logvar / 2)，KL 散度却把它当成 exp(logvar)。",
        ),
        "model-outputs-swapped": (
            "logvar 放在了 mu 前面",
            "损失更低，复制品也不错。但 KL 散度把 mu 当成了 logvar，"
            "编码的分布没有约束，与先验对不上。",
        ),
        "model-sigmoid-twice": (
            "sigmoid 用了两次",
            "第二次 sigmoid 的输入不小于 0，概率不会低于 1/2；黑像素只好取输出 0，画面几乎全黑。",
        ),
        "nll-half-of-bce": (
            "只有一半的交叉熵",
            "它把所有像素都涂白，报告的损失几乎是零。",
        ),
        "nll-negated": (
            "重构的符号反了",
            "错得越多，奖励越多。没有笔画的地方它涂成白色，损失一降再降。",
        ),
        "z-sigma-exp-logvar": (
            "把方差当成 sigma",
            "损失更低，图像也好。但噪声的 sigma 是 exp(logvar)，"
            "KL 散度却把它当成 exp(logvar / 2)。",
        ),
        "z-sigma-as-logvar": (
            "把 logvar 当成 sigma",
            "logvar 等于 0 就关掉了噪声，而对 KL 散度来说 0 正是最好的值。损失更低，复制品清晰。",
        ),
        "z-mean": (
            "没有噪声",
            "这是一个惩罚 mu 的自编码器。损失更低，复制品清晰，编码却经不起噪声。",
        ),
        "z-mean-in-evaluation": (
            "测试时没有噪声",
            "模型训练得没错。测试时没有噪声，所以测试损失偏低。",
        ),
        "z-uniform-noise": (
            "均匀分布的噪声",
            "噪声很小，而且从不为负。噪声小，解码就容易，所以损失更低。",
        ),
        "z-noise-shared-over-batch": (
            "整批共用一份噪声",
            "整批编码朝同一个方向移动。损失忽高忽低，学得很慢。",
        ),
        "z-from-distribution-sample": (
            "采样没有梯度",
            "重构的梯度到不了编码器。画出来的全是平均图像。",
        ),
        "model-one-head": (
            "mu 和 logvar 共用一个输出头",
            "只有均值小于 0 的地方，sigma 才会小。一切都差一点，从图像上却看不出原因。",
        ),
        "model-relu-on-mu": (
            "mu 经过了 ReLU",
            "在每个潜在变量上，先验有一半落在 0 以下，mu 却从不到那里。很多采样的图像不是数字。",
        ),
        "model-relu-on-logvar": (
            "logvar 经过了 ReLU",
            "每朵云都太宽，编码分不清。复制品和采样的图像都模糊。",
        ),
        "train-gradients-not-zeroed": (
            "没有 zero_grad",
            "损失来回摆动，学到的只有哪里可能有笔画。",
        ),
        "train-pixels-divided-twice": (
            "像素又除了一次 255",
            "测试图像也被除了，而全黑的图像很容易画。损失很小，画出来一片漆黑。",
        ),
        "train-on-both": (
            "训练集里混进了测试图像",
            "它见过测试图像，训练的步数也多了五分之一。所以就连按正确公式的损失也比正确的程序低，"
            "但这说明不了它在新图像上的好坏。",
        ),
        "train-first-batch-tested": (
            "只测试第一批",
            "模型训练得没错，只是 128 幅图像的损失除以了全部测试图像数，看上去比实际好得多。",
        ),
    },
    sentences=messages.read(Path(messages.__file__).with_name("zh_CN.po")),
)
