"""The ledger of the paper's claims: every row has a proof or a reason."""

import claims
import notebooks
import pytest


@pytest.fixture
def ledger():
    return claims.read()


def complaints(ledger):
    names = {path.stem for path in notebooks.reading_order()}
    return claims.problems(ledger, claims.existing_tests(), names)


def test_every_claim_has_its_proof_or_its_reason(ledger):
    assert complaints(ledger) == []


def test_the_page_is_current(ledger):
    text = (notebooks.NBS / "claims.md").read_text(encoding="utf-8")
    assert text == claims.page(ledger), "nbs/claims.md is stale: run make links"


BROKEN = [
    ("A1", "tests", "", "A1: reproduced, but without a test"),
    (
        "A1",
        "tests",
        "test_model.py::test_nothing",
        "no test test_model.py::test_nothing",
    ),
    ("E4", "reason", "", "E4: not here, but without a reason"),
    ("E6", "notebook", "", "E6: shown, but in no notebook"),
    ("E6", "notebook", "99_none", "there is no notebook 99_none"),
    ("B2", "status", "sure", "B2: status 'sure'"),
    ("E2", "results", "", "E2: measured, but without results"),
    ("E2", "results", "none.csv", "E2: no row is measured in results/none.csv"),
]


@pytest.mark.parametrize(("row", "key", "value", "complaint"), BROKEN)
def test_a_broken_row_is_found(ledger, row, key, value, complaint):
    ledger[row][key] = value
    assert any(complaint in text for text in complaints(ledger))


def test_a_missing_and_a_strange_row_are_found(ledger):
    ledger.remove_section("A7")
    ledger["Z1"] = {"claim": "?", "status": "shown", "notebook": "05_model"}
    found = complaints(ledger)
    assert any(text.startswith("A7: it is not") for text in found)
    assert any(text.startswith("Z1: no such claim") for text in found)
