"""Networks are read as they are typed."""

from __future__ import annotations

import pytest

from topwork.errors import OptionError, UnknownNameError
from topwork.evaluation.candidates import Candidate


def test_candidates_as_typed() -> None:
    assert Candidate.read("DenseNet121") == Candidate("densenet121")
    assert Candidate.read("mobilenet_v2@160=w.h5") == Candidate("mobilenet_v2", 160, "w.h5")
    assert Candidate.read("mobilenet_v2@160=a/w.h5").title == "mobilenet_v2@160=w.h5"
    assert Candidate.read("resnet50").title == "resnet50@224"
    for text, error in (("resnet5", UnknownNameError), ("resnet50@big", OptionError), ("resnet50@8", OptionError)):
        with pytest.raises(error):
            Candidate.read(text)
