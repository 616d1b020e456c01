"""Configs that cannot be compared are refused before they train."""

from scripts import ablate


def test_other_clips_are_refused(tiny_yaml, tmp_path, capsys):
    other = tmp_path / "other.yaml"
    other.write_text(f"includes: [{tiny_yaml.name}]\ndataset:\n  test_languages: [ase]\n")
    assert ablate.main([str(tiny_yaml), str(other), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "other.yaml: the 6 clips of its test split are not the 6 of" in error and "tiny.yaml" in error
    assert not (tmp_path / "out").exists()
