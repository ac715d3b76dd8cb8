"""Why it exists: each key of a Compose service is either carried over or named with the reason why it is not.

The reasons stand in one table, so that the report and the documentation say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.spec.section import near

if TYPE_CHECKING:
    from sutazai.compose.report import Notes
    from sutazai.spec.section import Section

#: Keys that are read and carried over, as far as the notes do not say otherwise.
CARRIED = (
    "image", "build", "command", "entrypoint", "environment", "env_file", "ports", "expose", "depends_on", "links",
    "healthcheck", "deploy", "mem_limit", "mem_reservation", "cpus", "cpuset", "cpu_shares", "cpu_quota", "cpu_period",
    "pids_limit", "restart", "volumes", "profiles", "extends", "working_dir", "container_name", "hostname", "networks",
    "stop_grace_period", "logging", "secrets", "configs", "scale", "network_mode",
)  # fmt: skip
_LOOPBACK = "all processes of a fleet are on 127.0.0.1 and reach each other by port"
_CONTAINER = "belongs to containers; this is a process on the host"
_PRIVILEGE = "a process has the rights of its user and no others; set user: on the service where it matters"
#: Key → why it is not carried over.
NOT_CARRIED = {
    "memswap_limit": "swap has no limit of its own here; memory is the limit that holds",
    "mem_swappiness": "swap has no limit of its own here; memory is the limit that holds",
    "oom_kill_disable": "a process beyond its limit is ended and restarted, always",
    "oom_score_adj": "the fleet decides who goes first when the machine is short",
    "cpu_rt_runtime": "realtime scheduling is not given out",
    "cpu_rt_period": "realtime scheduling is not given out",
    "cpu_count": "for Windows containers; write cpu: 2c",
    "cpu_percent": "for Windows containers; write cpu: 0.5c",
    "blkio_config": "there are no limits of input and output here",
    "ulimits": "a service gets the limits of files and processes that the fleet has; pids is the limit of processes",
    "sysctls": "are the kernel's, for all processes together",
    "shm_size": "shared memory is the host's",
    "gpus": "this is a machine without a GPU",
    "devices": "devices of the host are open to a process by its user's rights",
    "device_cgroup_rules": _PRIVILEGE,
    "privileged": _PRIVILEGE,
    "cap_add": _PRIVILEGE,
    "cap_drop": _PRIVILEGE,
    "security_opt": _PRIVILEGE,
    "userns_mode": _PRIVILEGE,
    "group_add": _PRIVILEGE,
    "user": "users of an image are not users of this host; user: NAME on the service runs it as one (root only)",
    "tmpfs": "write temporary files to /tmp or to {state}",
    "read_only": "the file system is the host's",
    "volumes_from": "name the folders in the service itself",
    "storage_opt": _CONTAINER,
    "dns": _LOOPBACK,
    "dns_search": _LOOPBACK,
    "dns_opt": _LOOPBACK,
    "extra_hosts": _LOOPBACK,
    "external_links": _LOOPBACK,
    "domainname": _LOOPBACK,
    "mac_address": _LOOPBACK,
    "labels": "labels are read by tools of the container engine only",
    "label_file": "labels are read by tools of the container engine only",
    "annotations": "annotations are read by tools of the container engine only",
    "stop_signal": "a service is asked to end with SIGTERM, then ended",
    "init": "sutazaid reaps what a service leaves behind",
    "tty": "no process of a fleet has a terminal",
    "stdin_open": "no process of a fleet has a terminal",
    "attach": "see: sutazai logs NAME",
    "platform": "the machine is what it is",
    "pull_policy": "no image is pulled",
    "runtime": _CONTAINER,
    "isolation": _CONTAINER,
    "ipc": _CONTAINER,
    "pid": _CONTAINER,
    "uts": _CONTAINER,
    "cgroup": "each process has a cgroup of its own already",
    "cgroup_parent": "each process has a cgroup of its own already",
    "credential_spec": _CONTAINER,
    "develop": "watch and rebuild are for images; sutazai restart NAME starts changed code",
    "post_start": "nothing runs inside a service but its command",
    "pre_stop": "nothing runs inside a service but its command; it is asked to end with SIGTERM",
    "provider": "external providers are programs of the container engine",
    "models": "the fleet has one model server, llm",
    "use_api_socket": "there is no container engine here",
    "log_driver": "logs go to sutazai logs NAME",
    "log_opt": "logs go to sutazai logs NAME",
    "net": _LOOPBACK,
}
_DEPLOY = {
    "mode": "one process a service",
    "replicas": "",
    "endpoint_mode": _LOOPBACK,
    "labels": NOT_CARRIED["labels"],
    "placement": "there is one machine",
    "restart_policy": "",
    "resources": "",
    "rollback_config": "sutazai up swaps what changed; a plan that does not fit changes nothing",
    "update_config": "sutazai up swaps what changed; a plan that does not fit changes nothing",
}


def note_keys(name: str, section: Section, notes: Notes) -> None:
    """Note every key of a service that is not carried over, known or not."""
    for key, _ in section.entries():
        place = section.key_place(key.text)
        if key.text in CARRIED or key.text.startswith("x-"):
            continue
        reason = NOT_CARRIED.get(key.text)
        if reason is not None:
            notes.add(name, key.text, place, reason)
            continue
        meant = near(key.text, (*CARRIED, *NOT_CARRIED))
        also = f"; did you mean {meant}?" if meant else ""
        notes.add(name, key.text, place, f"unknown key {key.text!r}: ignored{also}", warn=True)


def note_deploy(name: str, deploy: Section, notes: Notes) -> None:
    """Note what of ``deploy`` is not carried over."""
    for key, _ in deploy.entries():
        if _DEPLOY.get(key.text) == "" or key.text.startswith("x-"):
            continue
        reason = _DEPLOY.get(key.text, f"unknown key {key.text!r}: ignored")
        notes.add(name, f"deploy.{key.text}", deploy.key_place(key.text), reason, warn=key.text not in _DEPLOY)
