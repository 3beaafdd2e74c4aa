"""Folders that are published to a place and read from it, on disk and on S3."""

from __future__ import annotations

import pytest

from spark_jobs.storage import filesystem_of, local_copy, publish_folder


@pytest.fixture
def folder(tmp_path):
    """A finished folder with a file in a folder of its own."""
    made = tmp_path / "made here"
    (made / "targets").mkdir(parents=True)
    (made / "manifest.json").write_text("{}")
    (made / "targets" / "model.onnx").write_bytes(b"weights")
    (made / "zz.txt").write_text("last by name")
    return made


def files_in(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_folder_on_s3_and_back(folder, object_storage, new_bucket):
    """Every byte arrives, comes back, and a repeat changes nothing; the named file goes last."""
    client = new_bucket("published")
    uri = "s3://published/bundles/one"
    for _ in range(2):
        publish_folder(folder, uri, last="manifest.json", storage_options=object_storage)
    listed = client.list_objects_v2(Bucket="published", Prefix="bundles/one/")["Contents"]
    when = {item["Key"].removeprefix("bundles/one/"): item["LastModified"] for item in listed}
    assert {name for name in when if not name.endswith("/")} >= set(files_in(folder))
    assert max(when.values()) == when["manifest.json"]
    with local_copy(uri, storage_options=object_storage) as copy:
        assert files_in(copy) == files_in(folder)
    with local_copy("s3://published/none", storage_options=object_storage) as copy:
        assert copy is None


def test_folder_on_disk(folder, tmp_path):
    """Its own place is left alone; another one gets a copy."""
    publish_folder(folder, folder.as_uri(), last="manifest.json")
    target = tmp_path / "there"
    publish_folder(folder, target.as_uri(), last="manifest.json")
    assert files_in(target) == files_in(folder)
    with local_copy(target.as_uri()) as place:
        assert place == target
    with local_copy(str(tmp_path / "none")) as place:
        assert place is None


def test_copy_that_breaks_off_is_not_whole(folder, tmp_path):
    """Without all other files the last one is not there, so nobody takes the copy for whole."""
    target = tmp_path / "there"
    (target / "zz.txt").mkdir(parents=True)  # in the way of the file
    with pytest.raises(OSError, match=r"zz\.txt"):
        publish_folder(folder, target.as_uri(), last="manifest.json")
    filesystem, root = filesystem_of(target.as_uri())
    assert filesystem.get_file_info(f"{root}/manifest.json").type.name == "NotFound"
