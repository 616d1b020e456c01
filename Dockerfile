# Serves a model folder (`signclip convert`) as an ordinary user:
#
#     docker build -t signclip .
#     docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/my_model:/model:ro" -e SIGNCLIP_TOKEN=SECRET signclip
FROM python:3.11-slim
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -r requirements.txt -r requirements-serve.txt
RUN pip install --no-cache-dir --no-deps .
RUN useradd --create-home signclip
USER signclip
WORKDIR /home/signclip
EXPOSE 8000
CMD ["signclip", "serve", "--model", "/model", "--host", "0.0.0.0", "--port", "8000"]
