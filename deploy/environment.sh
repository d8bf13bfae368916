#!/bin/sh
# `environment.sh FOLDER CONSTRAINTS REQUIREMENT...`: a virtual environment of an image with what the project needs (its
# dependencies and the extras datasets, s3, gcs and tracing, from pyproject.toml) and the REQUIREMENTs, in the versions of
# CONSTRAINTS.
# DeepSpeed's setup imports torch, so torch comes first; its ops are compiled when they are used.
set -eu
folder=$1
constraints=$2
shift 2
python -m venv "$folder"
needed=$(mktemp)
"$folder/bin/python" - > "$needed" <<'PYTHON'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
names = ("datasets", "s3", "gcs", "tracing")
print(*project["dependencies"], *(package for name in names for package in extras[name]), sep="\n")
PYTHON
pip="$folder/bin/python -m pip --no-cache-dir --disable-pip-version-check"
$pip install --constraint "$constraints" setuptools wheel torch "$@"
DS_BUILD_OPS=0 $pip install --constraint "$constraints" --no-build-isolation --requirement "$needed"
rm "$needed"
