"""A cluster with a past, written by a few SQL statements: nodes, jobs of many users, runs, pods, generations with their images,
output and events. For benches/pages.py at full size and for tests of the number of queries at a small one.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import connection

from clusteros.accounts.services import ensure_user

USERS = 20


@dataclass(frozen=True)
class Size:
    nodes: int = 400
    jobs: int = 100_000
    events: int = 1_000_000
    sampled_minutes: int = 2880


NODES = """
INSERT INTO nodes_node (name, state, secret, address, store_port, store_url, cores, mem_bytes, version, joined_at, last_heartbeat, boot_id,
    boottime_ns, load1, mem_used_bytes, store_bytes, disk_free_bytes, net_in_bytes_per_s,
    net_out_bytes_per_s, doctor, drain_words, drain_wanted)
SELECT 'n' || lpad(i::text, 4, '0'), CASE i %% 97 WHEN 0 THEN 'lost' WHEN 1 THEN 'draining' ELSE 'up' END, 's', '10.0.0.1', 0, 'http://n', 64,
    256::bigint << 30, 'seed', now(), now(), 'b', 1, (i %% 64), (i %% 200)::bigint << 30, (i %% 90)::bigint << 30, 900::bigint << 30, i * 1000, i * 500, '{}', '', false
FROM generate_series(1, %(nodes)s) i"""

JOBS = """
INSERT INTO jobs_job (id, number, owner_id, name, state, command, script, pods, ranks_per_pod, cores_per_rank, mem_bytes, env, workdir, keep, keep_every, keep_per,
    files_policy, placement, wanted_nodes, queue, priority, submitted_at, started_at, ended_at, exit_status, reason, waiting_because, obstacles,
    epoch, restarts, resume_nodes, checkpointable, interval_s, "array", array_index)
SELECT gen_random_uuid(), i, (SELECT id FROM auth_user WHERE username = 'u' || (i %% %(users)s)), 'seed-' || (i %% 500),
    CASE WHEN i %% 100 = 0 THEN 'running' WHEN i %% 100 = 1 THEN 'queued' WHEN i %% 100 < 8 THEN 'failed' ELSE 'completed' END,
    '["mpirun", "./solver"]', '', 2, 4, 1, 1 << 30, '{}', '/work', 5, 0, '', 'restore', 'spread', '{}', 'default', 0,
    now() - make_interval(secs => %(jobs)s - i), now() - make_interval(secs => %(jobs)s - i), CASE WHEN i %% 100 > 1 THEN now() END, NULL, '',
    CASE WHEN i %% 100 = 1 THEN 'waits for room' ELSE '' END, '[]', 1, 0, '{}', true, 60,
    CASE WHEN i %% 10 = 3 THEN i - (i %% 1000) + 3 END, CASE WHEN i %% 10 = 3 THEN i %% 1000 / 10 END
FROM generate_series(1, %(jobs)s) i"""

RUNS = """
INSERT INTO jobs_run (id, job_id, epoch, network, state, from_generation, log_marks, base_s, created_at, started_at, ended_at, reason)
SELECT gen_random_uuid(), id, 1, nextval('jobs_run_network'), CASE WHEN state = 'running' THEN 'running' ELSE 'ended' END, NULL, '{}', 0, submitted_at, started_at, ended_at, ''
FROM jobs_job WHERE state <> 'queued'"""

PODS = """
INSERT INTO jobs_pod (run_id, index, node_id, state, in_inventory, seen_at, code, message, pids, processes, mem_bytes, cpu_s, obstacles,
    stdout_bytes, stderr_bytes, files_in)
SELECT r.id, p, (SELECT min(id) FROM nodes_node) + (j.number * 2 + p) %% %(nodes)s, CASE WHEN r.state = 'running' THEN 'running' ELSE 'ended' END,
    true, 0, '', '', 5, '[]', 1 << 28, 12, '[]', 0, 0, false
FROM jobs_run r JOIN jobs_job j ON j.id = r.job_id CROSS JOIN generate_series(0, 1) p"""

GENERATIONS = """
INSERT INTO checkpoints_generation (id, job_id, number, run_id, epoch, state, pinned, cause, "then", decision, reason, code, pause_ms, took_ms,
    bytes, bytes_new, ran_s, warnings, taken_at, deadline, completed_at)
SELECT gen_random_uuid(), r.job_id, n, r.id, 1, 'complete', n = 2, 'interval', 'run', 'go', '', '', 12, 300, 1 << 30, 1 << 26, n * 60, '[]',
    r.created_at + make_interval(secs => n), now(), now()
FROM jobs_run r JOIN jobs_job j ON j.id = r.job_id CROSS JOIN generate_series(1, 5) n WHERE r.state = 'running' OR j.number %% 20 = 3"""

SNAPSHOTS = """
INSERT INTO checkpoints_snapshot (generation_id, pod, node_id, state, digest, bytes, bytes_new, pause_ms, took_ms, log_marks, resources, code, message)
SELECT g.id, p.index, p.node_id, 'stored', encode(sha256((g.id::text || p.index)::bytea), 'hex'), 1 << 29, 1 << 25, 12, 300, '{}', '{"pids": 5, "mem_bytes": 268435456, "cpu_s": 9, "processes": [{"pid": 2, "name": "solver", "mem_bytes": 1}]}', '', ''
FROM checkpoints_generation g JOIN jobs_pod p ON p.run_id = g.run_id"""

REPLICAS = """
INSERT INTO checkpoints_replica (digest, node_id, complete, since, failed_words, in_inventory)
SELECT digest, node_id, true, now(), '', true FROM checkpoints_snapshot"""

CHUNKS = """
INSERT INTO jobs_logchunk (run_id, pod, stream, "offset", data, recorded_at)
SELECT r.id, 0, 'stdout', c * 100, convert_to(repeat('step of the solver' || chr(10), 5), 'UTF8'), now() - interval '1 hour'
FROM jobs_run r CROSS JOIN generate_series(0, 40) c WHERE r.state = 'running'"""

EVENTS = """
INSERT INTO core_event (at, kind, words, actor, owner_id, job, job_number, run, pod, generation, node, old, new, data)
SELECT now() - make_interval(secs => (%(events)s - i)), CASE i %% 5 WHEN 0 THEN 'job.running' WHEN 1 THEN 'generation.complete'
    WHEN 2 THEN 'pod.running' WHEN 3 THEN 'node.up' ELSE 'snapshot.stored' END, 'seeded', CASE WHEN i %% 50 = 0 THEN 'u1' ELSE '' END,
    CASE WHEN i %% 5 <> 3 THEN j.owner_id END, CASE WHEN i %% 5 <> 3 THEN j.id END, CASE WHEN i %% 5 <> 3 THEN j.number END, NULL, NULL,
    CASE WHEN i %% 5 = 1 THEN 1 END, CASE WHEN i %% 5 = 3 THEN 'n0007' ELSE '' END, '', CASE WHEN i %% 5 = 0 THEN 'running' ELSE '' END, '{}'
FROM generate_series(1, %(events)s) i JOIN jobs_job j ON j.number = 1 + (i::bigint * 7919) %% %(jobs)s ORDER BY i"""

SAMPLES = """
INSERT INTO checkpoints_sample (at, nodes_up, cores, cores_used, load, mem_bytes, mem_used_bytes, running, waiting, generations, store_bytes)
SELECT now() - make_interval(secs => 15 * i), 400, 25600, 9000, 8000, 1, 1, 1000, 1000, 5000, 1 FROM generate_series(1, 40000) i"""

NODE_SAMPLES = """
INSERT INTO checkpoints_nodesample (node_id, at, load, mem_used_bytes, pods, cores_used, net_in_bytes_per_s, net_out_bytes_per_s)
SELECT n.id, now() - make_interval(mins => i), 7, 1, 2, 8, 1000, 1000 FROM generate_series(1, %(minutes)s) i CROSS JOIN nodes_node n"""

STEPS = (NODES, JOBS, RUNS, PODS, GENERATIONS, SNAPSHOTS, REPLICAS, CHUNKS, EVENTS)


def seed(size: Size, *, samples: bool = False) -> User:
    """Write it all; gives an administrator. The busiest job is number 100: it runs and has generations and output."""
    for number in range(USERS):
        ensure_user(f"u{number}")
    values = {"nodes": size.nodes, "jobs": size.jobs, "events": size.events, "users": USERS, "minutes": size.sampled_minutes}
    with connection.cursor() as cursor:
        for step in (*STEPS, SAMPLES, NODE_SAMPLES) if samples else STEPS:
            cursor.execute(step, values)
        cursor.execute("SELECT setval('jobs_job_number', %s)", [size.jobs + 1])
        cursor.execute("ANALYZE")
    return ensure_user("root-of-seed", admin=True)
