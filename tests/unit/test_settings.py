from __future__ import annotations

import os
from typing import Any

from wsclean_workerd.config import Config
from wsclean_workerd.settings import RELOADABLE, command_rules, compare


def config(**values: Any) -> Config:
    jobs = {"run_as": f"{os.getuid()}:{os.getgid()}", **values.pop("jobs", {})}
    return Config.model_validate({"mounts": [{"host": "/stage"}], "jobs": jobs, **values})


def test_what_can_change_does_and_what_cannot_is_named() -> None:
    old = config()
    new = config(
        slots=3,
        jobs={"umask": "0027", "run_timeout": "none", "programs": ["wsclean", "taql"]},
        storage={"probe_timeout": "9s"},
        docker={"image": "other"},
        mounts=[{"host": "/stage"}, {"host": "/more"}],
    )
    changes = compare(old, new)
    assert changes.made == (
        "slots is 3, was 1",
        "jobs.programs is wsclean taql, was wsclean wsclean-mp chgcentre taql",
        "jobs.umask is 0027, was 0022",
        "jobs.run_timeout is none, was 86400.0",
        "storage.probe_timeout is 9.0, was 5.0",
    )
    assert changes.pending == ("docker.image", "mounts")
    # Only the former are gone by.
    assert changes.config.slots == 3
    assert changes.config.jobs == new.jobs
    assert changes.config.storage == new.storage
    assert (changes.config.docker, changes.config.mounts) == (old.docker, old.mounts)
    # What is pending is so until it is taken back, or the daemon starts anew.
    again = compare(changes.config, new)
    assert (again.made, again.pending) == ((), ("docker.image", "mounts"))
    assert compare(changes.config, changes.config).pending == ()


def test_the_rules_of_commands_are_those_of_the_configuration() -> None:
    rules = command_rules(config(jobs={"programs": ["taql"], "umask": "0027", "queue_timeout": 5}))
    assert (rules.programs, rules.umask, rules.queue_timeout) == (["taql"], 0o027, 5.0)
    assert rules.mapper.map_argument("/stage/a.ms") == "/stage/a.ms"


def test_only_settings_that_there_are_can_be_reloaded() -> None:
    names = set()
    for name, field in Config.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        names |= {f"{name}.{each}" for each in inner} if inner else {name}
    assert names >= RELOADABLE
