"""Reads statistics as the programs do that show them live: lazydocker (a stream for each container at once, precpu and cpu of one
frame), ctop (differences between frames, sums over interfaces and disks), docker stats (memory without the inactive cache)."""
import faulthandler
import http.client
import json
import os
import socket
import sys
import threading

faulthandler.dump_traceback_later(50, exit=True)


class Engine(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(sys.argv[1])


def stream(name):
    connection = Engine("docker")
    connection.request("GET", f"/v1.41/containers/{name}/stats?stream=1")
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    return answer


def lazydocker(frame):
    """Percent of all processors, times their number, from one frame."""
    cpu, before = frame["cpu_stats"], frame["precpu_stats"]
    used = cpu["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    system = cpu["system_cpu_usage"] - before["system_cpu_usage"]
    assert system > 0 and used >= 0, frame
    return used / system * cpu["online_cpus"] * 100


def ctop(first, second):
    """The same from two frames."""
    one, two = first["cpu_stats"], second["cpu_stats"]
    system = two["system_cpu_usage"] - one["system_cpu_usage"]
    processors = two["online_cpus"] or len(two["cpu_usage"]["percpu_usage"])
    return (two["cpu_usage"]["total_usage"] - one["cpu_usage"]["total_usage"]) / system * processors * 100


def memory(frame):
    """Without what the kernel would drop first; cgroups of both versions."""
    stats = frame["memory_stats"]
    inactive = stats["stats"].get("inactive_file", stats["stats"].get("total_inactive_file"))
    assert isinstance(inactive, int), stats
    return stats["usage"] - inactive


def disks(frame):
    sums = {"read": 0, "write": 0}
    for entry in frame["blkio_stats"]["io_service_bytes_recursive"] or []:
        assert isinstance(entry["major"], int) and isinstance(entry["minor"], int), entry
        if entry["op"].lower() in sums:
            sums[entry["op"].lower()] += entry["value"]
    return sums


frames = {name: [] for name in sys.argv[2:]}


def follow(name):
    answer = stream(name)
    while len(frames[name]) < 3:
        frames[name].append(json.loads(answer.readline()))


threads = [threading.Thread(target=follow, args=(name,)) for name in frames]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for name, (first, second, third) in frames.items():
    assert first["name"] == "/" + name and len(first["id"]) == 64, first
    assert first["read"] < second["read"] < third["read"] and second["preread"] == first["read"], frames
    assert second["cpu_stats"]["online_cpus"] == len(os.sched_getaffinity(0)) or second["cpu_stats"]["online_cpus"] == os.cpu_count()
    assert second["memory_stats"]["limit"] == 128 << 20, second["memory_stats"]
    assert second["pids_stats"]["current"] >= 1
    received = sum(each["rx_bytes"] for each in second["networks"].values())
    sent = sum(each["tx_bytes"] for each in second["networks"].values())
    assert list(second["networks"]) == ["eth0"] and received >= 0 and sent >= 0, second["networks"]
    disks(second)
busy, calm = frames["busy"], frames["calm"]
for reader in (lazydocker(busy[2]), ctop(*busy[1:])):
    assert reader > 5, ("the busy one", reader)
assert lazydocker(calm[2]) < lazydocker(busy[2]) and ctop(*calm[1:]) < ctop(*busy[1:]), frames
assert lazydocker(busy[2]) <= 100 * busy[2]["cpu_stats"]["online_cpus"] * 1.2
assert memory(calm[2]) >= 32 << 20, ("32 MiB of shared memory", calm[2]["memory_stats"])
assert memory(busy[2]) < 32 << 20, busy[2]["memory_stats"]
print("all well")
