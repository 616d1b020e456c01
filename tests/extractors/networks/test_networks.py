import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmpt.extractors import I3D, S3D
from mmpt.extractors.networks.layers import max_pool, max_pool_same
from mmpt.extractors.networks.weights import fill_randomly, load_strictly, read_weights
from mmpt.utils.errors import MissingDataError, UserError


def noise(shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth(low, size, seed):
    return F.interpolate(noise(low, seed), size=size, mode="trilinear", align_corners=False)


S3D_INPUTS = {
    "noise": lambda: noise((1, 3, 32, 128, 128), 1000),
    "smooth": lambda: smooth((1, 3, 8, 16, 16), (32, 128, 128), 2000),
    "small": lambda: smooth((2, 3, 4, 7, 6), (16, 112, 96), 3000),
}
I3D_INPUTS = {
    "noise": lambda: noise((1, 3, 16, 224, 224), 4000) * 2 - 1,
    "smooth": lambda: smooth((1, 3, 4, 14, 14), (16, 224, 224), 5000) * 2 - 1,
}


@pytest.fixture(scope="module")
def s3d():
    network = S3D()
    fill_randomly(network, 0, 2.6)
    return network


@pytest.fixture(scope="module")
def i3d():
    network = I3D()
    fill_randomly(network, 0, 2.0)
    return network


def check_input(frames, expected):
    flat = frames.flatten().double()
    got = [flat.sum().item(), flat[0].item(), flat[12345].item(), flat[-1].item()]
    assert got == pytest.approx(expected.tolist(), rel=1e-6)


@pytest.mark.parametrize("name, frozen", [("noise", True), ("smooth", False), ("small", True)])
def test_s3d_gives_the_references_numbers(s3d, data_dir, name, frozen):
    expected = np.load(data_dir / "s3d" / "io.npz")
    frames = S3D_INPUTS[name]()
    check_input(frames, expected[f"{name}_input_check"])
    network = _frozen_twin(s3d, S3D()) if frozen else s3d
    with torch.inference_mode():
        pooled = network.pooled(frames)
        np.testing.assert_allclose(pooled, expected[f"{name}_mixed_5c"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            network.fc(pooled), expected[f"{name}_video_embedding"], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name, frozen", [("noise", True), ("smooth", False)])
def test_i3d_gives_the_references_numbers(i3d, data_dir, name, frozen):
    expected = np.load(data_dir / "i3d" / "io.npz")
    frames = I3D_INPUTS[name]()
    check_input(frames, expected[f"{name}_input_check"])
    network = _frozen_twin(i3d, I3D()) if frozen else i3d
    with torch.inference_mode():
        embeddings = network(frames)
        np.testing.assert_allclose(embeddings, expected[f"{name}_embds"], rtol=1e-4, atol=1e-4)
        logits = network.logits(embeddings)[:, :16]
        np.testing.assert_allclose(logits, expected[f"{name}_logits16"], rtol=1e-4, atol=1e-4)


def _frozen_twin(network, twin):
    twin.load_state_dict(network.state_dict())
    return twin.freeze(fast=True)


def test_s3d_and_i3d_state_dicts_are_the_references(s3d, i3d, data_dir):
    listed = json.loads((data_dir / "s3d" / "state_dict.json").read_text())["compared"]
    assert [[k, list(v.shape), str(v.dtype)[6:]] for k, v in s3d.state_dict().items()] == listed
    listed = json.loads((data_dir / "i3d" / "state_dict.json").read_text())
    assert [[k, list(v.shape), str(v.dtype)[6:]] for k, v in i3d.state_dict().items()] == listed
    assert list(S3D().freeze().state_dict()) == list(s3d.state_dict())


def test_frozen_network_ignores_training_mode(s3d):
    frames = torch.rand(1, 3, 4, 32, 32)
    with torch.inference_mode():
        before = s3d.eval()(frames)
        statistics = s3d.conv1.bn1.running_mean.clone()
        assert torch.equal(s3d.train()(frames), before)
    assert torch.equal(s3d.conv1.bn1.running_mean, statistics)


def test_s3d_refuses_odd_sizes(s3d):
    for shape in ((1, 3, 5, 32, 32), (1, 3, 4, 33, 32), (1, 1, 4, 32, 32), (3, 4, 32, 32)):
        with pytest.raises(UserError, match=r"expected \[N, 3, T, H, W\]"):
            s3d(torch.zeros(shape))


# ---- weights


def test_the_official_file_of_s3d_loads(s3d, tmp_path):
    path = tmp_path / "s3d_howto100m.pth"
    sentence = {"text_module.word_embd.weight": torch.zeros(7, 300), "text_module.fc1.bias": torch.zeros(3)}
    torch.save({**s3d.state_dict(), **sentence}, path)
    state, record = read_weights(str(path), "origin")
    network = S3D()
    load_strictly(network, state, str(path), skip="text_module.")
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), s3d.state_dict().values()))
    assert record["weights"] == path.name and len(record["weights_sha256"]) == 64


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_official_file_of_i3d_loads(i3d, tmp_path, wrapped):
    from mmpt.extractors.i3d_extractor import I3DExtractor

    path = tmp_path / "bsl5k.pth.tar"
    state = {f"module.{key}": tensor for key, tensor in i3d.state_dict().items()}
    torch.save({"epoch": 24, "arch": "InceptionI3d", "state_dict": state} if wrapped else state, path)
    network = I3DExtractor(str(path)).load()
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), i3d.state_dict().values()))


def test_i3d_with_another_number_of_classes(tmp_path):
    from mmpt.extractors.i3d_extractor import I3DExtractor

    torch.save(I3D(num_classes=11).state_dict(), tmp_path / "weights.pth")
    assert I3DExtractor(str(tmp_path / "weights.pth")).load().logits.conv3d.out_channels == 11


def test_network_weights_are_loaded_strictly(s3d):
    state = dict(s3d.state_dict())
    del state["mixed_4c.conv_b1_b.bn2.running_var"]
    with pytest.raises(UserError, match=r"1 missing: mixed_4c\.conv_b1_b\.bn2\.running_var"):
        load_strictly(S3D(), state, "weights.pth")
    state = {**s3d.state_dict(), "fc.weigth": torch.zeros(1)}
    with pytest.raises(UserError, match=r"1 unexpected: fc\.weigth"):
        load_strictly(S3D(), state, "weights.pth")
    state = {**s3d.state_dict(), "fc.bias": torch.zeros(7)}
    with pytest.raises(UserError, match=r"fc\.bias \(\[7\], expected \[512\]\)"):
        load_strictly(S3D(), state, "weights.pth")


def test_network_weights_that_would_run_code_are_refused(tmp_path):
    import pathlib

    torch.save({"fc.bias": torch.zeros(512), "path": pathlib.PurePosixPath("x")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth"):
        read_weights(str(tmp_path / "evil.pth"), "origin")


def test_missing_network_weights_name_the_source(tmp_path):
    with pytest.raises(MissingDataError, match="published by somebody"):
        read_weights(str(tmp_path / "gone.pth"), "They are published by somebody.")
    for spec in ("random:", "random:x", "random:-1"):
        with pytest.raises(UserError, match="random:SEED"):
            read_weights(spec, "")


def test_random_weights_depend_on_the_seed_only(s3d):
    again, other = S3D(), S3D()
    fill_randomly(again, 0, 2.6)
    fill_randomly(other, 1, 2.6)
    assert torch.equal(again.fc.weight, s3d.fc.weight) and not torch.equal(other.fc.weight, s3d.fc.weight)


# ---- layers


@pytest.mark.parametrize("size", [(4, 6, 8), (5, 7, 9), (1, 1, 1), (2, 3, 1)])
def test_max_pools_against_the_definition(size):
    x = torch.rand(2, *size, 3)
    channels_first = x.permute(0, 4, 1, 2, 3)
    expected = F.max_pool3d(channels_first, 3, 1, 1).permute(0, 2, 3, 4, 1)
    assert torch.equal(max_pool_same(x), expected)
    for kernel, stride in (((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2))):
        for before in ((0, 0, 0), tuple(min(1, k - s) for k, s in zip(kernel, stride))):
            padding = []
            for axis in (2, 1, 0):
                out = -(-size[axis] // stride[axis])
                behind = (out - 1) * stride[axis] + kernel[axis] - size[axis] - before[axis]
                padding += [before[axis], max(behind, 0)]
            padded = F.pad(channels_first, padding)
            sizes = [-(-n // s) for n, s in zip(size, stride)]
            expected = F.max_pool3d(padded, kernel, stride)[:, :, : sizes[0], : sizes[1], : sizes[2]]
            got = max_pool(x, kernel, stride, before).permute(0, 4, 1, 2, 3)
            assert torch.equal(got, expected), (size, kernel, before)
