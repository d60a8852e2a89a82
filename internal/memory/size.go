package memory

import (
	"slices"
	"unsafe"

	"github.com/accelhttp/accelerator/accel"
)

// preparedSize is allowed for each body for what the middleware keeps beside an
// entry to answer without allocating: header slices with their strings. Measured
// for a page in two codings: 990 bytes for both.
const preparedSize = 512

// Size returns the bytes that an entry occupies in memory: its structures,
// strings, header, tags, marks and bodies, each as large as the allocator makes
// it, and what a [Cache] keeps with it. A string that is shared, as the name of
// a header field often is, is counted all the same.
func Size(e *accel.Entry) int64 {
	n := allocated(int(unsafe.Sizeof(Item{}))) + allocated(int(unsafe.Sizeof(*e)))
	n += str(e.Resource) + str(e.Variant) + str(e.ETag)
	n += strs(e.Vary) + strs(e.Tags)
	n += slice(e.Marks) + slice(e.Bodies) + fields(e.Control) + fields(e.Header)
	for i := range e.Bodies {
		b := &e.Bodies[i]
		n += str(b.Coding) + str(b.ETag) + slice(b.Data) + preparedSize
	}
	return n
}

func fields(s []accel.Field) int64 {
	n := slice(s)
	for i := range s {
		n += str(s[i].Name) + strs(s[i].Values)
	}
	return n
}

func rowSize(names []string) int64 {
	return allocated(int(unsafe.Sizeof(row{}))) + strs(names)
}

func str(s string) int64 { return allocated(len(s)) }

func slice[T any](s []T) int64 {
	var t T
	return allocated(cap(s) * int(unsafe.Sizeof(t)))
}

func strs(s []string) int64 {
	n := slice(s)
	for _, x := range s {
		n += str(x)
	}
	return n
}

// allocated returns what the allocator hands out for n bytes.
func allocated(n int) int64 {
	if n <= 0 {
		return 0
	}
	if n > int(sizes[len(sizes)-1]) {
		const page = 8 << 10
		return (int64(n) + page - 1) / page * page
	}
	i, _ := slices.BinarySearch(sizes[:], uint16(n))
	return int64(sizes[i])
}

// sizes are the allocator's size classes (runtime/sizeclasses.go). They have
// changed once in ten years; a test compares them with the runtime's.
var sizes = [...]uint16{
	8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416, 448,
	480, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792, 2048, 2304, 2688, 3072, 3200, 3456, 4096,
	4864, 5120, 5376, 6144, 6528, 6784, 6912, 8192, 9472, 9728, 10240, 10880, 12288, 13568, 14336, 16384, 18432,
	19072, 20480, 21760, 24576, 27264, 28672, 32768,
}
