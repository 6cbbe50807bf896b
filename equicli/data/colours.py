"""From any of Pillow's modes of 8 bits to RGB."""

from PIL import Image, ImageCms


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded picture to one of its pixels alone; transparent ones are laid on white."""
    picture = _converted(image)
    picture.info.clear()  # what it says of orientation and transparency would count again
    return picture


def _converted(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        found = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert found is not None
        return found
    if image.mode == "La":  # Pillow takes it to RGBA by this way only
        image = image.convert("LA")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
