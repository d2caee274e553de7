# Build:  docker build -t cloister .
# Run:    docker run -v cloister-data:/data cloister keys create --name me   (once: from outside, nobody gets in without)
#         docker run -p 127.0.0.1:8000:8000 -v "$PWD/handbook:/docs:ro" -v cloister-data:/data cloister
# Models: -v /my/models:/weights:ro -e CLOISTER_MODEL=/weights/any.gguf

FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY scripts scripts
COPY server server
COPY models models
COPY index index
# Instructions every x86-64 machine since 2013 has, not the build machine's own.
ENV CMAKE_ARGS="-DGGML_NATIVE=OFF"
RUN scripts/bootstrap runtime && rm -rf /root/.cache

FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data cloister \
    && mkdir /data /docs /weights && chown cloister /data
COPY --from=build /app /app
COPY docs /app/docs
USER cloister
ENV CLOISTER_HOST=0.0.0.0 CLOISTER_DATA=/data CLOISTER_DOCS__DOCS=/docs PYTHONDONTWRITEBYTECODE=1
VOLUME ["/data", "/docs", "/weights"]
EXPOSE 8000
HEALTHCHECK --start-period=180s CMD ["/app/.venv/bin/python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz')"]
ENTRYPOINT ["/app/.venv/bin/cloister"]
CMD ["serve"]
