import gzip
import hashlib
import io
import urllib.error

import pytest
import torch
import torchvision.datasets.utils

from vae_ref import ImageSet, InputError, fashion_mnist, mnist
from vae_ref.data import DataError


def idx(array: torch.Tensor) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.numpy().tobytes()


@pytest.fixture
def root(tmp_path):
    """A Fashion-MNIST of six images, in torchvision's layout."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = torch.arange(6 * 784).reshape(6, 28, 28).to(torch.uint8)
    for split in ("train", "t10k"):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(torch.arange(6).to(torch.uint8)))
    return tmp_path


@pytest.mark.parametrize("train", [True, False])
def test_a_torchvision_root(root, train):
    data = fashion_mnist(root, train=train)
    assert data.images.equal(torch.arange(6 * 784).reshape(6, 784).to(torch.uint8))
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.size == (28, 28)
    assert len(data) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-1], r"truncated or corrupted: it has 4719 bytes.* announces 4720"),
        (lambda b: b[:100], "truncated or corrupted"),
        (lambda b: b + b"x", "truncated or corrupted"),
        (lambda _: b"", "not an IDX file with 3 axes"),
        (lambda b: b[:15], "not an IDX file with 3 axes"),
        (lambda _: b"<html>404</html>", "not an IDX file with 3 axes"),
        (lambda _: idx(torch.arange(6).to(torch.uint8)), "not an IDX file with 3 axes"),
        (lambda _: idx(torch.zeros(0, 28, 28).byte()), r"empty: its sizes are 0, 28, 28"),
        (lambda _: idx(torch.zeros(6, 0, 28).byte()), r"its sizes are 6, 0, 28"),
        (lambda b: b[:4] + b"\xff" * 12, "announces 79228162458924105385300197391"),
    ],
)
def test_a_damaged_file_is_named(root, change, message):
    file = root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte is .*{message}") as error:
        fashion_mnist(root, train=True)
    assert str(error.value).endswith(f"Delete {file} and fetch it again.")


def test_a_wrong_byte_is_found_by_its_checksum(root):
    """MNIST's digests are known; the sizes of this file are right, its content is not."""
    (root / "FashionMNIST").rename(root / "MNIST")
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte is corrupted: it has the wrong checksum"
    ):
        mnist(root, train=True)


def test_a_wrong_byte_is_found_by_the_archive_that_torchvision_leaves(root):
    file = root / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = file.read_bytes()
    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(content))
    fashion_mnist(root, train=False)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is corrupted: it has the wrong"):
        fashion_mnist(root, train=False)


def test_images_and_labels_that_do_not_belong_together(root):
    file = root / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte"
    file.write_bytes(idx(torch.arange(5).to(torch.uint8)))
    with pytest.raises(DataError, match="6 images, 5 labels"):
        fashion_mnist(root, train=True)


def test_a_label_above_9(root):
    file = root / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte"
    file.write_bytes(idx(torch.tensor([0, 9, 176, 3, 4, 5]).byte()))
    with pytest.raises(DataError, match=f"{file.name} is corrupted: it has a label 176, above 9"):
        fashion_mnist(root, train=True)


def test_a_file_is_not_read_before_its_header_is_known(root, monkeypatch):
    """Of whatever size: these are sparse."""
    monkeypatch.setattr("vae_ref.data.idx.np.fromfile", lambda *_: pytest.fail("it was read"))
    file = root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    with file.open("r+b") as stream:
        stream.truncate(2**40)
    with pytest.raises(DataError, match="it has 1099511627776 bytes, and its header announces"):
        fashion_mnist(root, train=True)
    file.write_bytes(bytes([0, 0, 8, 3]) + 3 * (4096).to_bytes(4, "big"))
    with file.open("r+b") as stream:
        stream.truncate(16 + 4096**3)
    with pytest.raises(DataError, match="it has 4096 examples in 68719476752 bytes; at most"):
        fashion_mnist(root, train=True)
    file.write_bytes(bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (10**7, 1, 1)))
    with file.open("r+b") as stream:
        stream.truncate(16 + 10**7)
    with pytest.raises(DataError, match="at most 1,000,000 in 100,000,000 are read"):
        fashion_mnist(root, train=True)


def test_of_an_archive_the_end_is_read(root, monkeypatch):
    file = root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    with file.with_name(f"{file.name}.gz").open("wb") as archive:
        archive.truncate(2**40)
    with pytest.raises(DataError, match="it has the wrong checksum"):
        fashion_mnist(root, train=True)
    file.with_name(f"{file.name}.gz").write_bytes(b"short")
    with pytest.raises(DataError, match="it has the wrong checksum"):
        fashion_mnist(root, train=True)


def test_one_split_can_be_had_without_the_other(root):
    (root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").unlink()
    assert len(fashion_mnist(root, train=False)) == 6


def test_what_is_missing_is_said_without_touching_the_disk(tmp_path):
    with pytest.raises(DataError, match=r"^MNIST is not in .*nowhere \(no .*raw\)"):
        mnist(tmp_path / "nowhere", train=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("existed", [True, False])
def test_without_a_network_nothing_half_made_stays(tmp_path, monkeypatch, existed):
    def unreachable(*_, **__):
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setattr(torchvision.datasets.utils.urllib.request, "urlopen", unreachable)
    root = tmp_path / "data"
    if existed:
        root.mkdir()
    with pytest.raises(DataError, match="could not be downloaded .*Network is unreachable"):
        mnist(root, train=True, download=True)
    assert root.exists() == existed
    assert not existed or list(root.iterdir()) == []


def test_what_is_missing_is_downloaded_with_a_progress_bar(root, tmp_path, monkeypatch, capfd):
    """Through torchvision's own code, from archives served in place of its mirror."""
    raw = root / "FashionMNIST" / "raw"
    archives = {f"{f.name}.gz": gzip.compress(f.read_bytes(), mtime=0) for f in raw.iterdir()}

    class Response(io.BytesIO):
        def __init__(self, url: str) -> None:
            content = archives[url.rsplit("/", 1)[-1]]
            super().__init__(content)
            self.length, self.url = len(content), url

    def serve(request):
        return Response(request.full_url)

    digests = [(name, hashlib.md5(content).hexdigest()) for name, content in archives.items()]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", digests)
    monkeypatch.setattr(torchvision.datasets.utils.urllib.request, "urlopen", serve)
    fetched = fashion_mnist(tmp_path / "new", train=True, download=True)
    assert fetched.images.equal(fashion_mnist(root, train=True).images)
    assert "100%" in capfd.readouterr().err

    wrong = [(name, "0" * 32) for name, _ in digests]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", wrong)
    with pytest.raises(DataError, match="could not be downloaded .*corrupted"):
        fashion_mnist(tmp_path / "other", train=True, download=True)


def test_a_batch_is_what_totensor_makes(root):
    data = fashion_mnist(root, train=True)
    index = torch.tensor([4, 0])
    batch = data.batch(index)
    assert batch.dtype == torch.float32
    assert batch.equal(data.images[index].float() / 255)
    assert data.batch(index, torch.float64).dtype == torch.float64


def test_it_stays_bytes_on_every_device(root, device):
    data = fashion_mnist(root, train=True).to(device)
    assert data.images.dtype == torch.uint8
    assert data.batch(torch.arange(2, device=device)).device.type == device.type


def test_mnist_takes_55_megabytes(mnist_sets):
    tensors = [t for data in mnist_sets for t in (data.images, data.labels)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    assert sum(storages.values()) <= 60e6
    assert [len(data) for data in mnist_sets] == [60_000, 10_000]


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(3).long(), "^images must be uint8 of shape"),
        (torch.zeros(3, 5).byte(), torch.zeros(3).long(), "^images must be uint8 of shape"),
        (torch.zeros(3, 2, 2).byte(), torch.zeros(3).long(), "^images must be uint8 of shape"),
        (torch.zeros(3, 4).byte(), torch.zeros(2).long(), "^labels must have one entry"),
    ],
)
def test_parts_that_do_not_fit(images, labels, message):
    with pytest.raises(InputError, match=message):
        ImageSet(images, labels, (2, 2))


def test_a_torch_loader_takes_it(root):
    data = fashion_mnist(root, train=True)
    (x, labels), (rest, _) = torch.utils.data.DataLoader(data, batch_size=4)
    assert x.equal(data.batch(torch.arange(4)))
    assert labels.tolist() == [0, 1, 2, 3]
    assert len(rest) == 2
