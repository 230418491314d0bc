"""cli.inputs."""
