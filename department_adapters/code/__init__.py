"""Operations written in Python as a source."""
