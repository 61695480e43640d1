FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# nomsgpack leaves out an encoding of Gin's that nothing here uses; it halves the binary.
RUN CGO_ENABLED=0 go build -trimpath -tags nomsgpack -ldflags="-s -w" -o /gin-sse .
# A fresh volume gets the owner and the mode of the folder that it is mounted on. Some platforms, such as OpenShift, run
# the image as a user of their own choice in group 0, so that group may write there too.
RUN mkdir -p /volumes/data && chmod 0770 /volumes/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /gin-sse /gin-sse
# What a folder contains keeps its mode; to copy /volumes/data itself would lose it.
COPY --from=build --chown=65532:0 /volumes /
ENV GIN_MODE=release
USER 65532:65532
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/gin-sse", "healthcheck"]
ENTRYPOINT ["/gin-sse"]
