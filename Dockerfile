# The two images of the project, from a context that `node test/images/build.ts --context build/image` prepares.
# Nothing runs while they are built, so neither a shell nor a network is needed: only files are copied.
#   docker build --target puller -f Dockerfile build/image
ARG BASE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BASE} AS runtime
COPY node /usr/local/bin/node
ENV NODE_ENV=production
WORKDIR /app
USER 65532:65532

FROM runtime AS puller
ARG VERSION=0.0.0
LABEL org.opencontainers.image.title="ocimodel puller" \
      org.opencontainers.image.description="Pulls a model artifact from an OCI registry into a volume, verified" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY puller/dist /app
# What V8 compiled of these files: read at a start, never written.
ENV NODE_COMPILE_CACHE=/app/puller/compile-cache
ENV NODE_COMPILE_CACHE_PORTABLE=1
# One heap of the C library for all threads: each of its own would keep what was freed in it.
ENV MALLOC_ARENA_MAX=1
# Its bytes are outside of the heap, which can be small. No option that changes compiled code: V8 would then compile everything anew,
# what is kept above and the code within Node too.
ENTRYPOINT ["/usr/local/bin/node", "--max-semi-space-size=1", "/app/puller/main.js"]

FROM runtime AS operator
ARG VERSION=0.0.0
LABEL org.opencontainers.image.title="ocimodel operator" \
      org.opencontainers.image.description="Serves models packaged as OCI artifacts on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY operator/node_modules /app/node_modules
COPY operator/dist /app
ENTRYPOINT ["/usr/local/bin/node", "/app/operator/main.js"]
