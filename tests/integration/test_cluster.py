"""Work units on other processes and behind URLs: the same table, anyone who dies."""

import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from nucleate.errors import ConfigError, InputError, ModelError, OutputError
from nucleate.inference.loading import load_model
from nucleate.inference.pipeline import EngineOptions
from nucleate.readers.remote import Mirror, fetch, is_url
from nucleate.slides.cluster import connect
from nucleate.slides.find_sources import expand_sources
from nucleate.slides.outputs import BatchOptions
from nucleate.slides.segment_many import run_batch
from nucleate.slides.slurm import read_profile, start_slurm
from nucleate.slides.worker import ModelSpec
from tests.errors import says
from tests.synthetic_slide import glass_with_tissue, tissue_block, write_slide

pytestmark = pytest.mark.filterwarnings("ignore")  # of other people's servers, in their threads
OPTIONS = BatchOptions(formats=(), engine=EngineOptions(1024))


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Return two slides of several units each, and the folder of what one process finds."""
    folder = tmp_path_factory.mktemp("slides")
    large, small = glass_with_tissue(folder / "large.tif"), folder / "small.tif"
    write_slide(small, 800, 700, tissue_block())
    sources = [large, small]
    run_batch(sources, folder / "alone", load_model(device="cpu", threads=1), OPTIONS)
    return sources, folder / "alone"


@pytest.fixture(scope="module")
def workers():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
        silence_logs=50,
    ) as cluster:  # fmt: skip
        yield cluster


def _same(one, other, name):
    a, b = (pq.read_table(folder / f"{name}.nuclei.parquet") for folder in (one, other))
    assert a.schema.equals(b.schema)
    for column in set(a.column_names) - {"bbox"}:
        np.testing.assert_array_equal(a[column].to_numpy(), b[column].to_numpy(), err_msg=column)
    return len(a)


def test_a_worker_dies_and_nothing_is_missing(tmp_path, slides, workers):
    sources, alone = slides
    killed = []

    def kill():
        folder = tmp_path / "out" / ".large.units"
        while not list(folder.glob("unit-*.parquet")):
            time.sleep(0.02)
        pid = next(iter(workers.workers.values())).process.process.pid
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    thread = threading.Thread(target=kill)
    with connect(workers.scheduler_address, None, ModelSpec("mtl-small", "cpu")) as cluster:
        thread.start()
        summary = run_batch(sources, tmp_path / "out", cluster.model(), OPTIONS, cluster=cluster)
    thread.join()
    assert killed
    assert summary["totals"]["done"] == 2
    assert _same(tmp_path / "out", alone, "large") > 250
    assert _same(tmp_path / "out", alone, "small") > 150


@pytest.mark.parametrize("threads", [pytest.param(2, marks=pytest.mark.slow), 8])
def test_threads_of_one_worker_share_a_model(tmp_path, slides, threads):
    from distributed import LocalCluster

    sources, alone = slides
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=threads, processes=False, dashboard_address=None,
            silence_logs=50,
        ) as cluster,
        connect(cluster.scheduler_address, None, ModelSpec("mtl-small", "cpu", threads=1)) as pool,
    ):  # fmt: skip
        summary = run_batch(sources, tmp_path / "out", pool.model(), OPTIONS, cluster=pool)
    assert [row.get("error", "") for row in summary["sources"]] == ["", ""]
    assert _same(tmp_path / "out", alone, "large") > 250
    assert _same(tmp_path / "out", alone, "small") > 150


def test_an_error_on_a_worker_is_that_of_its_slide(tmp_path, slides, workers):
    sources, alone = slides
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0" + b"\xff" * 40)
    with connect(workers.scheduler_address, None, ModelSpec("mtl-small", "cpu")) as cluster:
        model = cluster.model()
        files = [broken, sources[1]]
        summary = run_batch(files, tmp_path / "out", model, OPTIONS, cluster=cluster)
        assert [row["status"] for row in summary["sources"]] == ["failed", "done"]
        _same(tmp_path / "out", alone, "small")
        with pytest.raises(ModelError, match=says("on the workers")):
            model.backend(np.zeros((1, 16, 16, 3), np.uint8))


def test_slides_are_started_as_workers_get_free(tmp_path, workers, monkeypatch):
    from nucleate.slides import segment_many

    sources = [tmp_path / f"{i}.tif" for i in range(8)]
    for i, source in enumerate(sources):
        write_slide(source, 200, 200 + i, tissue_block())
    printed = []

    def begin(path, *rest):
        printed.append("begin")
        return real(path, *rest)

    real = segment_many.start
    monkeypatch.setattr(segment_many, "start", begin)
    with connect(workers.scheduler_address, None, ModelSpec("mtl-small", "cpu")) as cluster:
        summary = run_batch(
            sources, tmp_path / "out", cluster.model(), OPTIONS, printed.append, cluster=cluster
        )
    assert summary["totals"]["done"] == 8
    assert [row["height"] for row in summary["sources"]] == list(range(200, 208))
    assert printed[:4] == ["begin"] * 4  # twice as many as two workers do at a time
    assert printed[4] != "begin"
    assert printed.count("begin") == 8


def test_the_number_of_workers_is_printed(workers):
    printed = []
    with connect(workers.scheduler_address, None, ModelSpec("mtl-small", "cpu"), printed.append):
        assert printed == [f"2 workers of {workers.scheduler_address}"]


def test_no_scheduler_is_one_sentence():
    from nucleate.slides import cluster

    waiting = cluster.connect("tcp://127.0.0.1:1", None, ModelSpec("mtl-small"), timeout_s=1)
    with pytest.raises(ConfigError, match=says("Dask scheduler")), waiting:
        pass


@pytest.fixture(scope="module")
def bucket():
    """Return the URL of an empty bucket of a local S3 server."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    names = {
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="slides")
        yield "s3://slides"
    server.stop()


def test_slides_and_results_behind_urls(tmp_path, slides, bucket):
    import boto3

    sources, alone = slides
    client = boto3.client("s3")
    client.upload_file(str(sources[1]), "slides", "in/small.tif")
    client.put_object(Bucket="slides", Key="in/readme.txt", Body=b"no slide")
    found = expand_sources([f"{bucket}/in"])
    assert found == [f"{bucket}/in/small.tif"]
    model = load_model(device="cpu", threads=1)
    options = BatchOptions(formats=("csv",), engine=EngineOptions(1024))
    summary = run_batch(found, f"{bucket}/out", model, options)
    assert summary["sources"][0]["status"] == "done"
    keys = {entry["Key"] for entry in client.list_objects_v2(Bucket="slides")["Contents"]}
    out = {"out/small.nuclei.parquet", "out/small.nuclei.csv", "out/summary.json"}
    assert keys == {"in/small.tif", "in/readme.txt", *out}
    back = fetch(f"{bucket}/out/small.nuclei.parquet", tmp_path)
    assert _same(back.parent, alone, "small")
    resumed = BatchOptions(formats=("csv",), engine=EngineOptions(1024), resume=True)
    summary = run_batch(found, f"{bucket}/out", model, resumed)
    assert summary["sources"][0]["notes"] == ["already segmented"]


def test_units_behind_urls_go_on(tmp_path, slides, bucket):
    """A run into a bucket that stopped in the middle goes on from another machine."""
    import boto3

    sources, alone = slides
    client = boto3.client("s3")
    model = load_model(device="cpu", threads=1)

    class Stopping:
        about = model.backend.about

        def __call__(self, batch):
            there = client.list_objects_v2(Bucket="slides", Prefix="o2/").get("Contents", [])
            if any("unit-" in entry["Key"] for entry in there):
                raise InputError("stopped")
            return model.backend(batch)

    options = BatchOptions(formats=(), engine=EngineOptions(1024), resume=True)
    with pytest.raises(InputError, match="stopped"):
        run_batch([sources[0]], f"{bucket}/o2", replace(model, backend=Stopping()), options)
    summary = run_batch([sources[0]], f"{bucket}/o2", model, options)
    assert "units were already segmented" in summary["sources"][0]["notes"][0]
    back = fetch(f"{bucket}/o2/large.nuclei.parquet", tmp_path)
    assert _same(back.parent, alone, "large")


def test_urls_that_lead_nowhere(tmp_path, bucket):
    assert is_url("gs://a/b")
    for url, said in (
        (f"{bucket}/none.svs", "no image or slide"),
        ("s3://no-such-bucket/a.svs", "no image or slide|cannot be reached"),
        ("nothing://a/b.svs", "Check the address|Install it"),
    ):
        with pytest.raises(InputError, match=said):
            expand_sources([url])
    with pytest.raises(InputError, match=says("several files")):
        fetch(f"{bucket}/a.mrxs", tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(OutputError, match=says("be reached")):
        Mirror(tmp_path, "s3://no-such-bucket/out").push("a.txt")


def test_slurm_jobs_are_what_the_profile_says(tmp_path):
    profile = {
        "jobs": 12, "cores": 8, "memory": "16GB", "queue": "gpu", "walltime": "04:00:00",
        "job_extra_directives": ["--gres=gpu:1"], "worker_extra_args": ["--resources", "GPU=1"],
    }  # fmt: skip
    (tmp_path / "slurm.yaml").write_text(yaml.safe_dump(profile))
    cluster = start_slurm(read_profile(tmp_path / "slurm.yaml"), start=False)
    script = cluster.job_script()
    cluster.close()
    for words in ("#SBATCH -p gpu", "#SBATCH --cpus-per-task=8", "#SBATCH --gres=gpu:1",
                  "#SBATCH -t 04:00:00", "--nthreads 8", "--resources GPU=1"):  # fmt: skip
        assert words in script
    for text, said in (
        ("jobs: 1", "lacks 'cores'"), ("[1, 2]", "lacks 'jobs'"), ("a: [", "is not valid YAML"),
        ("{jobs: 0, cores: 1, memory: 1GB}", "from 1 to 10000"),
    ):  # fmt: skip
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_profile(tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match="profile is invalid"):
        start_slurm({"jobs": 1, "cores": 1, "memory": "1GB", "nonsense": 1}, start=False)


def test_copies_are_distinguished(tmp_path, bucket):
    import boto3

    client = boto3.client("s3")
    for key, body in (("c1/x.npy", b"one"), ("c2/x.npy", b"two"), ("c3/.a.units/x.png", b"no")):
        client.put_object(Bucket="slides", Key=key, Body=body)
    first, second = (fetch(f"{bucket}/{key}/x.npy", tmp_path) for key in ("c1", "c2"))
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")
    client.put_object(Bucket="slides", Key="c1/x.npy", Body=b"new")
    assert fetch(f"{bucket}/c1/x.npy", tmp_path).read_bytes() == b"new"
    with pytest.raises(InputError, match=says("or slide")):
        expand_sources([f"{bucket}/c3"])


def test_a_worker_that_never_comes_is_one_sentence():
    from distributed import LocalCluster

    spec = ModelSpec("mtl-small", "cpu")
    with (
        LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50) as none,
        connect(none.scheduler_address, None, spec) as cluster,
        pytest.raises(ModelError, match=says("no worker")),
    ):
        cluster.model(timeout_s=2)


def test_profiles_and_manifests_of_the_slide_page_are_what_they_claim(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "slides.md").read_text(encoding="utf-8")
    slurm, kubernetes = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "slurm.yaml").write_text(slurm, encoding="utf-8")
    cluster = start_slurm(read_profile(tmp_path / "slurm.yaml"), start=False)
    assert "--gres=gpu:1" in cluster.job_script()
    cluster.close()
    manifest = yaml.safe_load(kubernetes)
    assert manifest["kind"] == "DaskCluster"
    (port,) = manifest["spec"]["scheduler"]["service"]["ports"]
    assert port["port"] == 8786
