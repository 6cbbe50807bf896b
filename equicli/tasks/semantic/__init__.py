"""The task of telling the class of every pixel."""
