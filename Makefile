# make demo               engine, images, build, and the services of specs/ up and ready
# make test               the same preparation, then every check and test
# make test ENGINE=28     the tests of the engine on another one, started beside the system's own:
#                         26, 28, 28-containerd, podman, podman-rootless, podman-6
# make compose-compare    compares how compose files are read with Docker Compose itself;
#                         STACKS="a b/compose.yaml,b/override.yaml" adds stacks of yours
# make compose-inspect    runs the stacks that STACKS names with small images, with Docker
#                         Compose and then here, and compares what `docker inspect` says
#
# All can be run again and again; a Docker engine that is already there is left as it is.

ENGINE ?= system
export ENGINE

.DEFAULT_GOAL := help
.PHONY: help demo test compose-compare compose-inspect

help:
	@sed -n 's/^# //p' Makefile

demo:
	@dev/demo.sh

test:
	@dev/check.sh

compose-compare:
	@dev/compose-compare.sh $(STACKS)

compose-inspect:
	@dev/compose-inspect.sh $(STACKS)
