"""Bytes ⇄ arrays: pictures, slides, annotations, results. No science here."""
