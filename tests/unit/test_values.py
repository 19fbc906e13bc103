"""Values that are made fast are as those that dataclasses make."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from frappe_jobs.dispatch import Options
from frappe_jobs.ledger.record import Record
from frappe_jobs.message import Message, Sending, new_id
from frappe_jobs.values import once, quick


@quick
@dataclass(frozen=True)
class Point:
    x: int
    y: int = 2
    rest: Mapping[str, int] = field(default_factory=dict)

    @once
    def words(self) -> list[str]:
        return [f"{self.x}", f"{self.y}"]


class TestQuick:
    def test_takes_arguments_by_place_and_by_name_and_defaults(self):
        assert Point(1) == Point(x=1, y=2, rest={}) == Point(1, 2, {})
        assert Point(1).rest is not Point(1).rest
        assert repr(Point(1)) == "Point(x=1, y=2, rest={})"
        assert replace(Point(1), y=3) == Point(1, 3)

    @pytest.mark.parametrize("wrong", [{}, {"x": 1, "z": 2}])
    def test_refuses_what_the_fields_do_not_take(self, wrong):
        with pytest.raises(TypeError):
            Point(**wrong)

    def test_stays_frozen(self):
        with pytest.raises(FrozenInstanceError):
            Point(1).x = 2

    def test_checks_after_it_is_made(self):
        @quick
        @dataclass(frozen=True)
        class Checked:
            x: int

            def __post_init__(self) -> None:
                raise ValueError(self.x)

        with pytest.raises(ValueError, match="7"):
            Checked(7)

    @pytest.mark.parametrize("kind", [Message, Sending, Options, Record])
    def test_sets_each_field(self, kind):
        names = [one.name for one in fields(kind)]
        made = kind(**{name: name for name in names})
        assert {name: getattr(made, name) for name in names} == {name: name for name in names}


class TestOnce:
    def test_is_worked_out_at_its_first_use_alone(self):
        point = Point(1)
        assert point.words == ["1", "2"]
        assert point.words is point.words
        assert replace(point, x=5).words == ["5", "2"]

    def test_of_the_class_is_itself(self):
        assert isinstance(Point.words, once)


def test_a_new_id_is_a_random_uuid():
    made = [new_id() for _ in range(300)]
    ids = [*map(uuid.UUID, made)]
    assert [*map(str, ids)] == made
    assert len({*ids}) == 300
    assert {(one.version, one.variant) for one in ids} == {(4, uuid.RFC_4122)}
