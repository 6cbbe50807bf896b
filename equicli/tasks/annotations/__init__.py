"""What people write down of objects in pictures, in the formats that they use; shared by the tasks about them."""
