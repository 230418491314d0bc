"""What commands read: models, the user's own code, names of classes, pictures."""
