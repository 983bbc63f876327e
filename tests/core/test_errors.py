"""Errors cross processes whole."""

import inspect
import pickle

import pytest

from raysubset import errors

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, errors.RaySubsetError)
]
FIELDS = {"TrainingDiverged": {"epoch": 7, "lr": 0.05}}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_pickles_with_its_message_and_its_fields(kind):
    fields = FIELDS.get(kind.__name__, {})
    error = kind("what, why and the remedy", **fields)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == "what, why and the remedy"
    assert vars(again) == vars(error)
    assert {name: getattr(again, name) for name in fields} == fields


@pytest.mark.parametrize("kind", CLASSES)
def test_every_field_of_an_error_is_tested(kind):
    extra = set(inspect.signature(kind).parameters) - {"message"}
    assert extra == set(FIELDS.get(kind.__name__, {}))


@pytest.mark.parametrize(
    "kind",
    [
        errors.ConfigError,
        errors.DataError,
        errors.ModelError,
        errors.BudgetError,
        errors.RunFolderError,
        errors.RoomError,
    ],
)
def test_bad_input_exits_with_code_2(kind):
    assert kind.exit_code == 2


def test_all_errors_are_caught_by_one_name():
    assert len(CLASSES) >= 9
    with pytest.raises(errors.RaySubsetError):
        raise errors.TrainingDiverged("loss is NaN", epoch=1, lr=0.1)
