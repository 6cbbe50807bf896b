"""Systems side by side on the same images: what is compared, how it is trained and counted."""
