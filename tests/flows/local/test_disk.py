"""A full disk is named with its home and the remedy."""

from __future__ import annotations

import shutil

from flows.local.disk import full_disk_notice


def test_a_disk_with_less_space_than_needed_is_named_with_its_home(tmp_path):
    more_than_it_has = 2 * shutil.disk_usage(tmp_path).total

    notice = full_disk_notice(tmp_path, more_than_it_has)

    assert notice is not None
    assert notice.startswith(f"the disk of {tmp_path} is full, ")
    assert "free some space" in notice
    assert full_disk_notice(tmp_path, least_free=0) is None
