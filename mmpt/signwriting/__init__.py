"""SignWriting (Sutton) as text: signs in Formal SignWriting (FSW) or Unicode SignWriting (SWU)."""

from mmpt.signwriting.signs import Sign, canonical, contains_sign, read_sign, split_signs

__all__ = ["Sign", "canonical", "contains_sign", "read_sign", "split_signs"]
