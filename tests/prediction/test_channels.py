"""How many channels networks take."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from equicli.artifact import load
from equicli.data.decode import read_picture
from equicli.errors import EquicliError
from equicli.prediction.load import load_network, rebuild_network
from equicli.prediction.signature import CLASSIFIER, try_network
from tests.training.small_runs import run_adapt


def weights_of(folder, channels):
    torch.manual_seed(0)
    path = folder / f"{channels}.safetensors"
    save_file(timm.create_model("test_resnet", in_chans=channels, num_classes=2).state_dict(), path)
    return str(path)


def load_timm(folder, channels):
    arguments = {"in_chans": channels, "num_classes": 2}
    return load_network("test_resnet", checkpoint=weights_of(folder, channels), arguments=arguments)


def test_a_network_of_one_channel_is_shown_grey_pictures_and_says_so(tmp_path):
    found = load_timm(tmp_path, 1)
    assert found.preprocess.normalization.channels == 1 and any("in grey" in line for line in found.remarks)
    assert rebuild_network(found.spec)(torch.zeros(1, 1, 64, 64)).shape == (1, 2)
    assert load_timm(tmp_path, 3).preprocess.normalization.channels == 3


def test_other_numbers_of_channels_are_refused_for_what_they_are(tmp_path):
    with pytest.raises(EquicliError, match=r"takes 4 channels, but pictures are shown in three .* or in one"):
        load_timm(tmp_path, 4)


def test_your_own_network_of_many_channels_is_told_by_its_first_convolution():
    network = nn.Sequential(nn.Conv2d(13, 4, 3), nn.Flatten())
    with pytest.raises(EquicliError, match="takes 13 channels"):
        try_network(network, CLASSIFIER, torch.zeros(1, 3, 8, 8))


def test_a_network_of_one_channel_is_adapted_and_served(workplace):
    checkpoint = weights_of(workplace, 1)
    run, adapted = run_adapt("out", checkpoint=checkpoint, model_args={"num_classes": 2, "in_chans": 1}, epochs=1)
    model = load(run.model)
    pictures = [sample.path for sample in adapted.validation]
    predicted = model.predict(pictures).output
    turned = [torch.rot90(read_picture(path), 1, (1, 2)) for path in pictures]
    assert torch.equal(model.predict(turned).output, predicted)
    assert torch.equal(predicted, adapted.model.predict(pictures).output)
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 2)
