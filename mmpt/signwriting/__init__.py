"""SignWriting (Sutton) as text: signs in Formal SignWriting (FSW) or Unicode SignWriting (SWU)."""

from mmpt.signwriting.signs import Sign, Symbol, canonical, contains_sign, read_sign, split_signs

__all__ = ["Sign", "Symbol", "canonical", "contains_sign", "read_sign", "split_signs"]
