"""The task of finding objects: their boxes, classes and, where a network draws them, masks."""
