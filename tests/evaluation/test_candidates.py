"""Networks are read as they are typed."""

from __future__ import annotations

import pytest

from topwork.errors import OptionError, UnknownNameError
from topwork.evaluation.candidates import NamedNetwork


def test_candidates_as_typed() -> None:
    assert NamedNetwork.read("DenseNet121") == NamedNetwork("densenet121")
    assert NamedNetwork.read("mobilenet_v2@160=w.h5") == NamedNetwork("mobilenet_v2", 160, "w.h5")
    assert NamedNetwork.read("mobilenet_v2@160=a/w.h5").title == "mobilenet_v2@160=w.h5"
    assert NamedNetwork.read("resnet50").title == "resnet50@224"
    for text, error in (("resnet5", UnknownNameError), ("resnet50@big", OptionError), ("resnet50@8", OptionError)):
        with pytest.raises(error):
            NamedNetwork.read(text)
