"""What the bundle's configuration asks of Python: its folder, a device, weights, one line."""

import json
import os
import pickle
import sys

import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.networks.nets import UNet

from grata_monai.bundle import (
    choose_device,
    find_bundle_root,
    load_network,
    report_errors_in_one_line,
)
from grata_monai.core.errors import NetworkError, OutputError, WeightsError


def small_network(channels: int = 4) -> torch.nn.Module:
    return UNet(3, 1, 2, (channels, 8), (2,))


# ------------------------------------------------------------------------------- its folder


@pytest.mark.parametrize("folder", ["configs", "settings"])
def test_the_root_is_above_configs_or_the_folder_itself(folder, tmp_path, monkeypatch):
    configs = tmp_path / "some bundle" / folder
    configs.mkdir(parents=True)
    root = {"_target_": "grata_monai.bundle.find_bundle_root"}
    (configs / "inference.json").write_text(json.dumps({"bundle_root": root}))
    monkeypatch.chdir(tmp_path)
    workflow = ConfigWorkflow(
        f"some bundle/{folder}/inference.json",
        meta_file=False,
        logging_file=False,
        workflow_type="infer",
    )
    workflow.initialize()
    expected = configs.parent if folder == "configs" else configs
    assert workflow.bundle_root == str(expected)


def test_without_a_workflow_the_root_is_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_bundle_root() == str(tmp_path)


# ------------------------------------------------------------------------------- a device


def test_auto_takes_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")


def test_a_named_device_is_taken_if_it_exists(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(NetworkError, match="got 'cuda:2' with 2 CUDA device"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:first", "0.5", ""])
def test_a_name_that_is_no_device_is_refused_with_what_there_is(name):
    with pytest.raises(NetworkError, match=r"device must be .* Use 'auto' or 'cpu'"):
        choose_device(name)


# ------------------------------------------------------------------------------- weights


def test_weights_are_loaded_all_and_the_network_is_ready_to_predict(tmp_path):
    saved, network = small_network(), small_network()
    torch.save(saved.state_dict(), tmp_path / "model.pt")
    loaded = load_network(network, str(tmp_path / "model.pt"), "cpu")
    assert loaded is network
    assert not loaded.training
    for key, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)
    convolution = next(m for m in loaded.modules() if isinstance(m, torch.nn.Conv3d))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_no_weights_keep_what_the_network_has():
    network = small_network()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    loaded = load_network(network, None, "cpu")
    assert all(torch.equal(before[k], tensor) for k, tensor in loaded.state_dict().items())


def test_a_missing_file_is_named_without_its_folder(tmp_path):
    with pytest.raises(WeightsError, match=r"got gone\.pt: FileNotFoundError. Check the path") as e:
        load_network(small_network(), str(tmp_path / "gone.pt"), "cpu")
    assert str(tmp_path) not in str(e.value)


@pytest.mark.parametrize("content", [b"", b"these are no weights"])
def test_a_file_without_weights_is_refused(content, tmp_path):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(WeightsError, match="weights must be a state dict that loads with"):
        load_network(small_network(), str(tmp_path / "model.pt"), "cpu")


def test_a_whole_module_is_refused_unloaded(tmp_path):
    torch.save(small_network(), tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"UnpicklingError\. .*save network\.state_dict"):
        load_network(small_network(), str(tmp_path / "model.pt"), "cpu")


def test_a_tensor_is_no_state_dict(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="must hold a state dict, got Tensor"):
        load_network(small_network(), str(tmp_path / "model.pt"), "cpu")


def test_a_checkpoint_of_the_trainer_is_refused_as_a_whole(tmp_path):
    torch.save({"average": small_network().state_dict(), 0: 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(WeightsError, match="missing, 2 unexpected"):
        load_network(small_network(), str(tmp_path / "checkpoint.pt"), "cpu")


def test_a_value_that_is_no_tensor_is_refused(tmp_path):
    state = small_network().state_dict()
    torch.save({**state, next(iter(state)): 3}, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"must have the network's shapes.* has int"):
        load_network(small_network(), str(tmp_path / "model.pt"), "cpu")


def test_renamed_keys_are_refused_with_the_nearest(tmp_path):
    state = small_network().state_dict()
    torch.save({f"module.{key}": state[key] for key in state}, tmp_path / "model.pt")
    count = len(state)
    message = f"{count} missing, {count} unexpected, first '(.*)'. The nearest to '\\1' is 'module"
    with pytest.raises(WeightsError, match=message):
        load_network(small_network(), str(tmp_path / "model.pt"), "cpu")


def test_other_shapes_are_refused_and_the_network_stays_as_it_was(tmp_path):
    torch.save(small_network(6).state_dict(), tmp_path / "model.pt")
    network = small_network()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(WeightsError, match=r"must have the network's shapes: .* has \(6"):
        load_network(network, str(tmp_path / "model.pt"), "cpu")
    assert all(torch.equal(before[k], tensor) for k, tensor in network.state_dict().items())


# ------------------------------------------------------------------------------- one line


@pytest.fixture
def hook(monkeypatch):
    """The installed hook; what it hands on goes to `previous`."""
    handed_on = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: handed_on.append(error))
    report_errors_in_one_line()
    return lambda error: (sys.excepthook(type(error), error, None), handed_on)[1]


def wrapped(cause: BaseException) -> BaseException:
    try:
        raise RuntimeError("Failed to instantiate") from cause
    except RuntimeError as error:
        return error


def test_our_errors_are_one_line_however_deep_they_lie(hook, capsys):
    assert hook(wrapped(wrapped(OutputError("output must be writable. Free space.")))) == []
    assert capsys.readouterr().err == "error: OutputError: output must be writable. Free space.\n"


def test_a_message_of_several_lines_becomes_one(hook, capsys):
    hook(OutputError("the file says\n  'no'.\nAsk again."))
    assert capsys.readouterr().err == "error: OutputError: the file says 'no'. Ask again.\n"


def test_ctrl_c_is_one_line(hook, capsys):
    assert hook(KeyboardInterrupt()) == []
    assert capsys.readouterr().err == "stopped: every case whose record is written is done\n"


def test_other_errors_go_to_the_previous_hook(hook, capsys):
    (handed_on,) = hook(KeyError("who knows"))
    assert handed_on[0] is KeyError
    assert capsys.readouterr().err == ""


def test_installing_twice_reports_once(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    report_errors_in_one_line()
    report_errors_in_one_line()
    error = OutputError("no. Yes.")
    sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err.count("\n") == 1


class Evil:
    """Pickled, it makes a folder when it is loaded as code."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_weights_that_are_a_program_are_refused_and_not_run(tmp_path):
    """`--weights FILE` of compare, calibrate and benchmark ends here, too."""
    torch.save({"a": Evil(str(tmp_path / "ran"))}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(str(tmp_path / "ran"))))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(WeightsError, match="a state dict that loads with weights_only=True"):
            load_network(small_network(), str(tmp_path / name), "cpu")
    assert not (tmp_path / "ran").exists()
