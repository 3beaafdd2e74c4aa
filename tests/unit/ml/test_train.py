import json

import attrs
import pyarrow as pa
import pytest

from contracts.errors import ContractViolation, IntegrityError
from contracts.ids import sha256_hex
from ml import registry
from ml.data import select_split
from ml.detector import load_detector
from ml.train import train, training_fingerprint
from tests.unit.ml.toy import toy_samples


def test_training_learns(trained):
    """The loss of a learnable problem falls to under a half."""
    losses = trained.losses
    assert sum(losses[-10:]) < sum(losses[:10]) / 2


def test_run_names_what_it_was_made_from(trained, toy_config, model_store):
    """The run holds dataset version, seed, configuration, code, metrics and the loss curve."""
    client = registry.open_client(model_store[0])
    run = client.get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["dataset_id"] == "toy-000000000000"
    assert run.data.params["seed"] == str(toy_config.seed)
    assert run.data.params["detector.height_px"] == "96"
    assert run.data.tags[registry.FINGERPRINT_TAG] == trained.fingerprint
    assert run.inputs.dataset_inputs[0].dataset.name == "toy-000000000000"
    assert run.data.metrics["final_loss"] == trained.metrics["final_loss"]
    assert len(client.get_metric_history(trained.run_id, "loss")) == toy_config.steps


def test_registered_model_is_candidate_and_no_pickle(trained, model_store):
    """The registered source holds safetensors and JSON only, under the alias candidate."""
    client = registry.open_client(model_store[0])
    version = client.get_model_version_by_alias(trained.model_name, registry.CANDIDATE)
    assert str(version.version) == trained.version
    assert version.run_id == trained.run_id
    names = {item.path for item in client.list_artifacts(trained.run_id, "model")}
    assert names == {"model/model.safetensors", "model/config.json", "model/losses.json"}


def test_same_input_finds_the_earlier_run(trained, toy_dataset, toy_config, model_store):
    """A repeat trains nothing and returns the same run, version, checkpoint and losses."""
    again = train(toy_dataset, toy_config, tracking_uri=model_store[0], artefacts=model_store[1])
    assert again == attrs.evolve(trained, reused=True)
    assert not trained.reused


def apart(config, name):
    """The same training under an experiment and a model name of its own."""
    return attrs.evolve(config, experiment=name, model_name=name)


def test_same_seed_gives_the_same_weights(toy_dataset, toy_config, model_store):
    """Trainings of two experiments write byte-identical checkpoints; another seed does not."""
    brief = attrs.evolve(toy_config, steps=4)
    place = {"tracking_uri": model_store[0], "artefacts": model_store[1]}
    configs = [apart(brief, name) for name in ("first", "second", "third")]
    configs[2] = attrs.evolve(configs[2], seed=8)
    made = [train(toy_dataset, config, **place).checkpoint for config in configs]
    digests = [sha256_hex(checkpoint.read_bytes()) for checkpoint in made]
    assert digests[0] == digests[1] != digests[2]


def test_fingerprint_covers_samples_and_configuration(toy_dataset, toy_config):
    """Another dataset, sample or setting is another training; the order of rows is not."""
    base = training_fingerprint(toy_dataset, toy_config)
    assert (
        training_fingerprint(
            toy_dataset.take(list(range(toy_dataset.num_rows - 1, -1, -1))), toy_config
        )
        == base
    )
    assert training_fingerprint(toy_dataset.slice(1), toy_config) != base
    names = pa.array(["other"] * toy_dataset.num_rows)
    place = toy_dataset.schema.get_field_index("dataset_id")
    renamed = toy_dataset.set_column(place, "dataset_id", names)
    assert training_fingerprint(renamed, toy_config) != base
    assert training_fingerprint(toy_dataset, attrs.evolve(toy_config, steps=99)) != base


def test_training_that_was_killed_is_marked_by_the_next(toy_dataset, toy_config, model_store):
    """A run whose process was killed does not stay RUNNING for ever."""
    config = attrs.evolve(apart(toy_config, "killed"), steps=2)
    client = registry.open_client(model_store[0])
    place = (model_store[1] / "killed").as_uri()
    experiment = client.create_experiment(config.experiment, artifact_location=place)
    learned = select_split(toy_dataset, "train")
    tags = {registry.FINGERPRINT_TAG: training_fingerprint(learned, config)}
    left = client.create_run(experiment, tags=tags)
    other = client.create_run(experiment, tags={registry.FINGERPRINT_TAG: "other"})
    train(
        toy_dataset,
        config,
        tracking_uri=model_store[0],
        artefacts=model_store[1],
    )
    assert client.get_run(other.info.run_id).info.status == "RUNNING"
    assert client.get_run(left.info.run_id).info.status == "KILLED"


def test_failed_training_is_no_result(toy_dataset, toy_config, model_store):
    """A run that breaks ends FAILED, registers nothing, and is not found by the next one."""
    wild = attrs.evolve(apart(toy_config, "wild"), steps=6, learning_rate=1e30)
    with pytest.raises(FloatingPointError):
        train(toy_dataset, wild, tracking_uri=model_store[0], artefacts=model_store[1])
    client = registry.open_client(model_store[0])
    experiment = registry.experiment_id(client, wild.experiment, model_store="unused")
    assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]
    fingerprint = client.search_runs([experiment])[0].data.tags[registry.FINGERPRINT_TAG]
    assert registry.find_run(client, experiment, fingerprint=fingerprint) is None
    assert registry.version_of_alias(client, wild.model_name, alias=registry.CANDIDATE) is None


def test_samples_of_two_datasets_are_refused(tmp_path, toy_config):
    """A training is made from one dataset version, else its lineage would lie."""
    import pyarrow as pa

    both = pa.concat_tables(
        [toy_samples(5, seed=1), toy_samples(5, seed=2, dataset_id="other-000000000000")]
    )
    with pytest.raises(ContractViolation, match="one dataset"):
        train(both, toy_config, tracking_uri=f"sqlite:///{tmp_path}/m.db", artefacts=tmp_path)


def test_checkpoint_carries_its_shape(trained, toy_config, tmp_path):
    """A checkpoint loads without any other file; a damaged one is refused as such."""
    model, config = load_detector(trained.checkpoint)
    assert config == toy_config.detector
    assert not model.training
    damaged = tmp_path / "model.safetensors"
    data = bytearray(trained.checkpoint.read_bytes())
    data[3] ^= 0xFF
    damaged.write_bytes(data)
    with pytest.raises(IntegrityError):
        load_detector(damaged)


def test_swapped_checkpoint_is_refused(toy_dataset, toy_config, model_store):
    """A checkpoint whose bytes changed after the training is refused before it is loaded."""
    brief = attrs.evolve(apart(toy_config, "swapped"), steps=2)
    place = {"tracking_uri": model_store[0], "artefacts": model_store[1]}
    made = train(toy_dataset, brief, **place)
    data = bytearray(made.checkpoint.read_bytes())
    data[-1] ^= 1
    made.checkpoint.write_bytes(data)
    with pytest.raises(IntegrityError, match="not the one"):
        train(toy_dataset, brief, **place)


def test_lost_files_are_trained_again(toy_dataset, toy_config, model_store):
    """A run whose files were cleared away is no result: the training is made anew."""
    import shutil

    brief = attrs.evolve(apart(toy_config, "cleared"), steps=2)
    place = {"tracking_uri": model_store[0], "artefacts": model_store[1]}
    made = train(toy_dataset, brief, **place)
    shutil.rmtree(made.checkpoint.parent)
    shutil.rmtree(model_store[1] / "mlflow" / "cleared" / made.run_id)
    again = train(toy_dataset, brief, **place)
    assert not again.reused
    assert again.run_id != made.run_id
    assert again.version == "2"
    assert train(toy_dataset, brief, **place).run_id == again.run_id


def test_configuration_file_is_canonical(trained, toy_config):
    """The logged configuration equals the one that was trained with."""
    stored = json.loads((trained.checkpoint.parent / "config.json").read_text())
    assert stored["detector"]["classes"] == list(toy_config.detector.classes)
    assert stored["steps"] == toy_config.steps
