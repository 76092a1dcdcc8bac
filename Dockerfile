# One image for every service and role; which one runs is the command: `identity api`, `segmentation worker`, `topics apply`.
FROM python:3.12-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/dear
WORKDIR /build
# The locked dependencies come before the code, so that a change in the code does not fetch them again.
COPY requirements-runtime.lock ./
RUN /opt/dear/bin/pip install --require-hashes -r requirements-runtime.lock
COPY pyproject.toml ./
COPY shared shared
COPY services services
COPY stack stack
RUN /opt/dear/bin/pip install --no-deps --no-build-isolation .

FROM python:3.12-slim
ENV PATH=/opt/dear/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DEAR_DATA_DIR=/data
# A number, not a name: Kubernetes can only tell that a number is not root.
RUN groupadd --gid 10001 dear && useradd --uid 10001 --gid dear --no-create-home --shell /usr/sbin/nologin dear && install -d -o dear -g dear /data
COPY --from=build /opt/dear /opt/dear
USER 10001:10001
WORKDIR /data
VOLUME /data
ENTRYPOINT ["dear"]
