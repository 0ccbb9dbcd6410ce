from __future__ import annotations

import pytest

from skipc.profiles import load_profile, profile_names
from skipc.runtime.meters.boards import BOARDS, board_with, likely_board

PROFILES = {
    f"{name} {board.name}": board
    for name in profile_names()
    for board in load_profile(name).boards
    if board.rails
}


@pytest.mark.parametrize("board", PROFILES.values(), ids=PROFILES)
def test_every_profile_with_rails_is_recognised_and_sums_the_same(board):
    found = board_with(board.rails)
    assert found is not None
    assert set(found.rails) == set(board.rails)
    assert found.total == board.total_rails


def test_every_board_has_a_profile_or_shares_its_rails_with_one():
    rails = {frozenset(board.rails) for board in PROFILES.values()}
    assert {frozenset(board.rails) for board in BOARDS} == rails


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_no_rail_of_a_total_is_part_of_another(board):
    assert board.total
    for label in board.rails:
        holder = board.holder(label, board.total)
        assert (holder == "") == (label in board.total)
        assert holder in ("", *board.total)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_board_is_told_from_the_others_and_by_the_rails_of_its_total(board):
    assert board_with(board.rails) is board
    assert board_with([*board.rails, "VDD_CAMERA"]) is board
    for missing in board.total:
        left = [label for label in board.rails if label != missing]
        assert board_with(left) is None
        if len(left) > 1:
            assert likely_board(left) is board


def test_one_label_is_not_enough():
    assert board_with(["VIN"]) is None
    assert board_with(["VDD_IN"]) is None
    assert likely_board(["VDD_IN"]) is None
    assert board_with([]) is None
