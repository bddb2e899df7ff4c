"""What the service keeps on disk: outbox, epochs, records, configuration."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from clusteros.envelope import seal
from native.engine import EngineError
from nodes.agent import outbox as outbox_module
from nodes.agent.config import ConfigError, NodeConfig, load_config
from nodes.agent.durable import read_json, write_durable, write_json
from nodes.agent.epochs import Epochs
from nodes.agent.outbox import Outbox
from nodes.agent.records import PodRecord, Records
from nodes.agent.spec import take_spec
from tests.node.bodies import spec_body


def make_outbox(folder: Path, sent: list[dict[str, Any]]) -> Outbox:
    folder.mkdir(exist_ok=True)
    return Outbox(folder, lambda kind, body: seal("node1", "secret", kind, body), sent.append)


def config(folder: Path) -> NodeConfig:
    return NodeConfig(folder, "node1", "secret", "http://front", "redis://r", "10.0.0.1", 7711, 4, 1 << 30)


# ---- outbox


def test_a_report_outlives_the_service_until_it_is_acked(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []
    first = make_outbox(tmp_path, sent).report("pod", {"n": 1})
    again = make_outbox(tmp_path, sent)
    assert [report["id"] for report in again.unacked()] == [first]
    assert again.unacked()[0] == sent[0], "the envelope is the same one, mac and all"
    again.ack([first, "unknown"])
    assert make_outbox(tmp_path, sent).unacked() == []


def test_a_report_that_cannot_be_sent_is_kept(tmp_path: Path) -> None:
    def refuse(_: dict[str, Any]) -> None:
        raise ConnectionError("no Redis")

    box = Outbox(tmp_path, lambda kind, body: seal("node1", "secret", kind, body), refuse)
    box.report("pod", {})
    assert len(make_outbox(tmp_path, []).unacked()) == 1


def test_fresh_reports_are_given_time_to_be_acked(tmp_path: Path) -> None:
    box = make_outbox(tmp_path, [])
    box.report("pod", {})
    assert box.unacked() == []


def test_unacked_reports_come_oldest_first_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "REPEAT_AFTER_S", 0.0)
    monkeypatch.setattr(outbox_module, "UNACKED_MAX_BYTES", 2000)
    box = make_outbox(tmp_path, [])
    ids = [box.report("pod", {"n": n, "pad": "x" * 300}) for n in range(20)]
    repeated = [report["id"] for report in box.unacked()]
    assert repeated == ids[: len(repeated)]
    assert 1 <= len(repeated) < 6


def test_a_report_larger_than_the_bound_still_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "REPEAT_AFTER_S", 0.0)
    monkeypatch.setattr(outbox_module, "UNACKED_MAX_BYTES", 10)
    box = make_outbox(tmp_path, [])
    box.report("pod", {"pad": "x" * 300})
    assert len(box.unacked()) == 1


def test_order_is_kept_over_restarts(tmp_path: Path) -> None:
    ids = [make_outbox(tmp_path, []).report("pod", {"n": n}) for n in range(3)]
    assert [report["id"] for report in make_outbox(tmp_path, []).unacked()] == ids


def test_a_half_written_report_means_nothing(tmp_path: Path) -> None:
    (tmp_path / ".000000000001-x.json.tmp").write_text('{"no')
    assert make_outbox(tmp_path, []).unacked() == []


# ---- epochs


def test_an_older_epoch_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    assert Epochs(tmp_path).see("job", 4)
    fresh = Epochs(tmp_path)
    assert not fresh.see("job", 4)
    with pytest.raises(EngineError) as caught:
        fresh.see("job", 3)
    assert caught.value.code.name == "STALE"
    assert fresh.see("job", 5)
    assert Epochs(tmp_path).newest("job") == 5
    assert Epochs(tmp_path).newest("another") == 0


# ---- records


def make_records(folder: Path) -> Records:
    for name in ("records", "graves"):
        (folder / name).mkdir(exist_ok=True)
    return Records(folder / "records", folder / "pods", folder / "graves")


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    spec = take_spec(spec_body())
    record, new = make_records(tmp_path).make(spec, {"command": ["true"]}, "starting")
    assert new
    record.phase, record.exit_status, record.log_base["stdout"] = "ended", 3, 17
    record.save()
    again = make_records(tmp_path).get(spec.key)
    assert again is not None
    assert (again.spec, again.phase, again.exit_status, again.log_base) == (spec, "ended", 3, {"stdout": 17, "stderr": 0})
    assert again.request == {"command": ["true"]}


def test_a_second_make_gives_the_same_record(tmp_path: Path) -> None:
    records, spec = make_records(tmp_path), take_spec(spec_body())
    first, _ = records.make(spec, {}, "starting")
    second, new = records.make(spec, {}, "starting")
    assert second is first
    assert not new


def test_a_folder_without_a_record_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "records" / "run-0").mkdir(parents=True)
    assert list(make_records(tmp_path)) == []
    assert not (tmp_path / "records" / "run-0").exists()


def test_a_pod_that_is_over_does_not_begin_again_also_after_a_restart(tmp_path: Path) -> None:
    spec = take_spec(spec_body())
    records = make_records(tmp_path)
    record, _ = records.make(spec, {}, "starting")
    records.drop(record)
    record.save()
    for again in (records, make_records(tmp_path)):
        with pytest.raises(EngineError) as caught:
            again.make(spec, {}, "starting")
        assert caught.value.code.name == "STALE"
        assert list(again) == []


def test_a_pod_that_ends_while_it_is_noted_is_known_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, records, found = take_spec(spec_body()), make_records(tmp_path), list[PodRecord | None]()
    asker = threading.Thread(target=lambda: found.append(records.get_or_bury(spec.key)))
    save = PodRecord.save

    def slow_save(record: PodRecord) -> None:
        asker.start()
        asker.join(0.2)
        save(record)

    monkeypatch.setattr(PodRecord, "save", slow_save)
    record, _ = records.make(spec, {}, "starting")
    asker.join()
    assert found == [record]
    assert records.get_or_bury("run-7") is None
    assert records.is_buried("run-7")
    assert not records.is_buried(spec.key)


# ---- files and configuration


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durable(path, b"old")
    (tmp_path / ".file.tmp").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_durable(path, b"new")
    assert path.read_bytes() == b"old"


def test_the_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    config(tmp_path / "state").save()
    assert stat.S_IMODE((tmp_path / "state" / "node.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_a_configuration_comes_back(tmp_path: Path) -> None:
    config(tmp_path).save()
    assert load_config(tmp_path) == config(tmp_path)


@pytest.mark.parametrize("content", [None, "{", '{"name": "x"}', '{"surprise": 1}'])
def test_a_state_directory_of_no_node_says_what_to_do(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "node.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert "join" in str(caught.value) or "node.json" in str(caught.value)


def test_json_files_are_read_back_and_absence_is_none(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    assert read_json(tmp_path / "x.json") == {"a": 1}
    assert read_json(tmp_path / "y.json") is None
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
