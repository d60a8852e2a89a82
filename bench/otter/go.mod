module github.com/accelhttp/accelerator/bench/otter

go 1.25.0

require (
	github.com/accelhttp/accelerator v0.0.0
	github.com/maypok86/otter/v2 v2.4.0
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
)

require (
	github.com/klauspost/compress v1.20.3 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace github.com/accelhttp/accelerator => ../..
