# A classifier as a service: 0.35 GB of Python packages, not root, on a file system that it need not write to.
#   docker build --build-arg RUN=runs/photos-1 -t photos .
#   docker run --read-only --tmpfs /tmp -p 8000:8000 -e TOPWORK_TOKEN=… photos
# RUN is a run folder, or a folder that `classifier.save` wrote, below this folder.

# All of Topwork builds the network's graphs with Keras: one that answers, one that explains.
FROM python:3.11-slim AS whole
COPY . /topwork
RUN pip install --no-cache-dir /topwork
ARG RUN
COPY ${RUN} /run-folder
ENV TOPWORK_CACHE=/graphs
RUN python -c "import topwork; c = topwork.load_classifier('/run-folder'); c.engine, c.map_engine; c.save('/classifier')"

FROM python:3.11-slim
COPY . /topwork
RUN pip install --no-cache-dir -r /topwork/requirements-serve.txt && pip install --no-cache-dir --no-deps /topwork
COPY --from=whole /classifier /classifier
COPY --from=whole /graphs /graphs
ENV TOPWORK_CACHE=/graphs
USER 65534:65534
EXPOSE 8000
ENTRYPOINT ["topwork", "serve", "/classifier", "--host", "0.0.0.0"]
