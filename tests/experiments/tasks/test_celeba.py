"""CelebA: a tiny copy in its published layout, read, trained on, and damaged."""

import os
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from helpers.command import seedmap
from seedmap.experiments.datasets.celeba import check_memory, memory_needed, read_celeba
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.tasks.celeba import PAPER, QUICK, scale, setup
from seedmap.trainer import make_streams, make_trainer

NAMES = ["5_o_Clock_Shadow", "Blond_Hair", "Male", "Smiling", "Young"]
PARTS = [0] * 8 + [1] * 2 + [2] * 6
VALUES = np.random.default_rng(0).choice([-1, 1], (len(PARTS), len(NAMES)))


def picture(i, size=(178, 218)):
    """Its left half is as red as the number of the image says, its right half blue."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 10 * i
    pixels[:, width // 2 :, 2] = 200
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path):
    """16 images: 8 to train, 2 to validate, 6 to test; image 3 is small already."""
    (tmp_path / "img_align_celeba").mkdir()
    rows, parts = [], []
    for i, (part, values) in enumerate(zip(PARTS, VALUES, strict=True), start=1):
        file = f"{i:06}.jpg"
        size = (128, 128) if i == 3 else (178, 218)
        picture(i, size).save(tmp_path / "img_align_celeba" / file, quality=95)
        rows.append(" ".join([file, *(f"{value:2}" for value in values)]))
        parts.append(f"{file} {part}")
    header = [str(len(rows)), " ".join(NAMES) + " "]
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join([*header, *rows]) + "\n")
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return tmp_path


def test_faces_labels_and_groups_are_those_of_the_lists(folder):
    faces = read_celeba(folder, "Smiling")
    part = np.array(PARTS)
    for (images, labels), rows in ((faces.images.train, part == 0), (faces.images.test, part == 2)):
        assert images.shape == (rows.sum(), 128, 128, 3)
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
        np.testing.assert_array_equal(labels, VALUES[rows, 3] == 1)
        red, blue = images[:, 64, 20].astype(int), images[:, 64, 100].astype(int)
        np.testing.assert_allclose(red[:, 0], 10 * (np.flatnonzero(rows) + 1), atol=4)
        np.testing.assert_allclose(blue[:, 2], 200, atol=4)
    male, young = (VALUES[part == 2, column] == 1 for column in (2, 4))
    expected = {"Female": ~male, "Male": male, "Old": ~young, "Young": young}
    assert set(faces.groups) == {name for name, group in expected.items() if group.any()}
    for name, group in faces.groups.items():
        np.testing.assert_array_equal(group, expected[name])


def test_all_of_a_face_is_kept(folder):
    """A row of white at the very top and bottom is there still."""
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[:6] = pixels[-6:] = 255
    Image.fromarray(pixels).save(folder / "img_align_celeba" / "000001.jpg", quality=100)
    image = read_celeba(folder, "Smiling").images.train[0][0]
    assert (image[[0, -1]] > 200).all()
    assert (image[8:-8] < 20).all()


def test_sizes_take_the_first_faces(folder):
    whole, some = read_celeba(folder, "Smiling"), read_celeba(folder, "Smiling", 3, 2)
    np.testing.assert_array_equal(some.images.train[0], whole.images.train[0][:3])
    np.testing.assert_array_equal(some.images.test[1], whole.images.test[1][:2])
    assert all(len(group) == 2 and group.any() for group in some.groups.values())


@pytest.mark.slow
def test_the_trainer_traces_the_published_layout(folder):
    """All of a training step and its evaluation, by shapes alone, at the paper's width."""
    made = setup(replace(PAPER, data_dir=str(folder), attribute="Smiling"))
    assert {len(group) for group in made.groups.values()} == {6}
    trainer = make_trainer(made.task, made.optimizer, 4, 2, lambda params: {})
    state = jax.eval_shape(trainer.init, make_streams([0]))
    _, record = jax.eval_shape(trainer.advance, state, made.task.pool)
    assert record["eval_loss"].shape == (1,)


@pytest.mark.slow
def test_trains_end_to_end_on_the_published_layout(folder, tmp_path):
    """Through the command; narrow and short."""
    flags = "--seeds 5 --seeds-at-once 1 --width 2 --batch-size 4 --epochs 2 --record-every 2"
    data = ["--data-dir", folder, "--attribute", "Smiling", "--record", "l2"]
    out = tmp_path / "run"
    assert seedmap("train", "celeba", *data, *flags.split(), "--out", out) == 0
    dataset = run_folder.read_dataset(out)
    assert dataset.step.values.tolist() == [2, 4]
    assert np.isfinite(dataset.to_array()).all()
    assert (dataset.train_loss[:, 1] != dataset.train_loss[:, 0]).all()


def test_drawn_faces_have_groups_and_a_label_that_shows():
    made = setup(QUICK)
    images, label = made.task.pool.test
    top = np.asarray(images[:, :64]).mean(axis=(1, 2, 3))
    np.testing.assert_array_equal(top > 100, np.asarray(label) == 1)
    assert set(made.groups) == {"Female", "Male", "Old", "Young"}
    np.testing.assert_array_equal(made.groups["Male"], ~made.groups["Female"])


def test_pixels_and_the_learning_rate():
    np.testing.assert_allclose(scale(jnp.array([0, 255], jnp.uint8)), [-1, 1])
    made = setup(replace(QUICK, epochs=10, learning_rate=0.5))  # 40 steps
    params = {"a": jnp.array([3.0])}
    state = made.optimizer.init(params)
    moved = []
    for _ in range(40):
        updates, state = made.optimizer.update({"a": jnp.array([-7.0])}, state, params)
        moved.append(float(updates["a"][0]))
    np.testing.assert_allclose(moved, [0.5] * 20 + [0.05] * 20, rtol=1e-4)


def test_memory_is_checked_before_a_face_is_read(folder, monkeypatch):
    assert memory_needed(162_770) == 2 * 162_770 * 49_152
    pages = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": memory_needed(14) - 1}
    monkeypatch.setattr(os, "sysconf", pages.get)
    (folder / "img_align_celeba" / "000001.jpg").unlink()
    with pytest.raises(ValueError, match=r"14 faces need 0\.0 GB of memory, .* lower --train-size"):
        read_celeba(folder, "Smiling")
    check_memory(13)


def edit(path, line, old, new):
    lines = path.read_text().splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("\n".join(lines) + "\n")


def shorten(path):
    path.write_text("\n".join(path.read_text().splitlines()[:9]) + "\n")


ATTR, PART, JPG = "list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba/000003.jpg"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / ATTR).unlink(), f"{ATTR}: expected the file of CelebA's published layout"),
        (lambda f: (f / PART).unlink(), f"{PART}: expected the file of CelebA's published layout"),
        (lambda f: (f / ATTR).write_text(""), f"{ATTR}, line 1: .* found an empty file"),
        (lambda f: edit(f / ATTR, 1, "16", "many"), f"{ATTR}, line 1: .* found 'many'"),
        (lambda f: shorten(f / ATTR), f"{ATTR}: expected 16 images, .* found 7 up to line 9"),
        (lambda f: edit(f / ATTR, 2, "Young", "Yong"), f"{ATTR}, line 2: no attribute 'Young'"),
        (lambda f: edit(f / ATTR, 2, "Smiling", "Smile"), "no attribute 'Smiling'; it names 5_o_"),
        (lambda f: edit(f / ATTR, 4, "1", "1 1"), f"{ATTR}, line 4: expected a file and 5 attrib"),
        (
            lambda f: edit(f / ATTR, 5, "000003.jpg", "000099.jpg"),
            f"{ATTR}, line 5: 000099.jpg is not in {PART}",
        ),
        (
            lambda f: edit(f / PART, 4, "jpg 0", "jpg 3"),
            f"{PART}, line 4: expected a file and 0",
        ),
        (lambda f: (f / JPG).unlink(), f"{JPG}: expected it, as {ATTR}, line 5, names it"),
        (
            lambda f: picture(3, (64, 80)).save(f / JPG),
            f"{JPG}: expected a PNG or JPEG image of 178 x 218 or 128 x 128 pixels, found: 64 x 80",
        ),
        (
            lambda f: (f / JPG).write_bytes(b"no"),
            f"{JPG}: expected a PNG or JPEG image of 178 x 218 or 128 x 128 pixels, found: neither",
        ),
        (
            lambda f: (f / PART).write_text((f / PART).read_text().replace("jpg 2", "jpg 1")),
            f"{PART}: expected images of the test set, found none",
        ),
    ],
)
def test_damaged_folders_are_named_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(ValueError, match=message) as caught:
        setup(replace(PAPER, data_dir=str(folder), attribute="Smiling"))
    assert "\n" not in str(caught.value)


def test_an_attribute_is_1_or_minus_1(folder):
    lines = (folder / ATTR).read_text().splitlines()
    fields = lines[6].split()
    lines[6] = " ".join([*fields[:4], "0", *fields[5:]])  # Smiling of the fifth image
    (folder / ATTR).write_text("\n".join(lines))
    with pytest.raises(ValueError, match="line 7: expected Smiling to be 1 or -1, found '0'"):
        read_celeba(folder, "Smiling")
    read_celeba(folder, "Blond_Hair")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "celeba"}, "no CelebA without --data-dir: name a folder with img_align_celeba"),
        ({"data_dir": "somewhere"}, "are generated, not read"),
        ({"test_size": None}, "give --train-size and --test-size"),
        ({"test_size": 0}, "--test-size is 0"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_wrong_settings_are_named_in_one_line(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        setup(replace(QUICK, **change))
    assert "\n" not in str(caught.value)


def test_sizes_above_what_is_there_are_refused(folder):
    with pytest.raises(ValueError, match=r"--train-size is 9; .* allows 1 to 8, or None for all"):
        read_celeba(folder, "Smiling", 9)
