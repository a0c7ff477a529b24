"""Free names with numbers."""

import itertools

from imgclf.core import names


def test_a_free_name_has_the_lowest_number() -> None:
    taken = {"a.png", "a-2.png", "a-4.png"}
    assert names.free("a", ".png", taken.__contains__) == "a-3.png"
    assert names.free("b", ".png", taken.__contains__) == "b.png"
    assert names.free("other-v1.5", "", {"other-v1.5"}.__contains__) == "other-v1.5-2"
    assert list(itertools.islice(names.numbered("report", ".csv", 1), 2)) == ["report-1.csv", "report-2.csv"]
