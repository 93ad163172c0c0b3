# The search service and the registry's static files. Build from the repository's root:
#   docker build -f deploy/server.Dockerfile -t kinspace-server .
FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY compat compat
COPY edge edge
COPY server_models server_models
COPY registry registry
RUN pip install --no-cache-dir '.[server]' && useradd --create-home kinspace
USER kinspace
VOLUME /data
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8000/healthz').raise_for_status()"]
ENTRYPOINT ["kinspace"]
CMD ["serve", "--registry", "/data/registry", "--gallery", "/data/gallery", "--family", "furniture", "--host", "0.0.0.0", "--port", "8000"]
