//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/codec"
)

// The test's program is also the one that a session starts in other roles.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "serve" || os.Args[1] == "load") {
		main()
		return
	}
	// Packages of the rivals start goroutines when they are imported.
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

func TestReadAnswerStopsBeforeTheBody(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\nX: y\r\nCONTENT-length:  5 \r\n\r\nhelloHTTP/1.1 404 Not Found\r\nConnection: Close\r\n\r\n"))
	a, err := readAnswer(r)
	require.NoError(t, err)
	require.Equal(t, answer{status: 200, length: 5}, a)
	body := make([]byte, a.length)
	_, err = io.ReadFull(r, body)
	require.NoError(t, err)
	require.Equal(t, "hello", string(body))

	a, err = readAnswer(r)
	require.NoError(t, err)
	require.Equal(t, answer{status: 404, length: -1, last: true}, a)
}

func TestReadAnswerRefusesWhatIsNoHead(t *testing.T) {
	for _, s := range []string{
		"",
		"HTTP/1.1\r\n\r\n",
		"HTTP/1.1 2x0 OK\r\n\r\n",
		"SSH-2.0-OpenSSH_9.2p1\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
	} {
		_, err := readAnswer(bufio.NewReader(strings.NewReader(s)))
		require.Error(t, err, "%q", s)
	}
}

func TestReadAnswerAllocatesNothing(t *testing.T) {
	text := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
	in := bytes.NewReader(text)
	r := bufio.NewReader(in)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		in.Reset(text)
		r.Reset(in)
		_, _ = readAnswer(r)
	}))
}

func TestStatIsReadWhateverTheNameIs(t *testing.T) {
	s, err := parseStat([]byte("42 (a) b (c)) S 7 42 42 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 1 0 5 6 7\n"))
	require.NoError(t, err)
	require.Equal(t, stat{parent: 7, state: 'S', cpu: 1750 * time.Millisecond}, s)

	_, err = parseStat([]byte("42 (a) S 7"))
	require.Error(t, err)
}

func TestProcessesSeeThemselves(t *testing.T) {
	require.Contains(t, tree(os.Getppid()), os.Getpid())
	require.True(t, alive(os.Getpid()))
	f, err := memoryOf([]int{os.Getpid()})
	require.NoError(t, err)
	require.Positive(t, f.anon)
	require.Positive(t, f.mapped)
}

func TestStatusGivesSizesInBytes(t *testing.T) {
	require.Equal(t, map[string]int64{"RssAnon": 4096, "RssShmem": 0},
		parseStatus([]byte("Name:\tpeers\nRssAnon:\t       4 kB\nRssShmem:\t       0 kB\nThreads:\t5\n")))
}

func TestPercentileAndMedian(t *testing.T) {
	times := make([]uint32, 101)
	for i := range times {
		times[i] = uint32(i)
	}
	require.EqualValues(t, 50, percentile(times, 50))
	require.EqualValues(t, 99, percentile(times, 99))
	require.Zero(t, percentile(nil, 99))

	require.Equal(t, 2.0, median([]float64{3, 1, 2}))
	require.Equal(t, 2.5, median([]float64{4, 1, 2, 3}))
}

func TestContentsAreOfTheirSizes(t *testing.T) {
	json, err := loadContent("json")
	require.NoError(t, err)
	require.Len(t, json.sent, 1<<10)
	require.Empty(t, json.coding())

	html, err := loadContent("html")
	require.NoError(t, err)
	require.InEpsilon(t, 16<<10, len(html.sent), 0.1)
	require.LessOrEqual(t, len(html.plain), 64<<10)
	plain, err := codec.Decode(nil, html.coding(), html.sent, 1<<20)
	require.NoError(t, err)
	require.Equal(t, html.plain, plain)

	_, err = loadContent("xml")
	require.Error(t, err)
}

func TestTableIsMarkdown(t *testing.T) {
	tab := table{head: []string{"a", "b", "c"}}
	tab.add("1", "2", "3")
	var b strings.Builder
	tab.print(&b)
	require.Equal(t, "| a | b | c |\n| --- | --- | ---: |\n| 1 | 2 | 3 |\n", b.String())
}

func TestEachServerInGoAnswersByItself(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one core only: there is none for the load")
	}
	require.NoError(t, chooseCores(""))
	for _, name := range []string{"json", "html"} {
		c, err := loadContent(name)
		require.NoError(t, err)
		for _, v := range servers() {
			if v.pages > 1 || sites[v.name] == nil {
				continue
			}
			in, err := v.start(setting{content: c, dir: t.TempDir()})
			require.NoError(t, err, v.name)
			err = v.check(in, c)
			in.end()
			require.NoError(t, err, "%s, %s", v.name, name)
		}
	}
	plainClient.CloseIdleConnections()
}

func TestOneCommandPrintsTheTables(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one core only: there is none for the load")
	}
	var out, log strings.Builder
	err := conduct(context.Background(), []string{
		"-servers", "bolt", "-contents", "json", "-rounds", "2", "-duration", "50ms",
		"-entries", "1000", "-purges", "1", "-dir", t.TempDir(),
	}, &out, &log)
	plainClient.CloseIdleConnections()
	require.NoError(t, err, log.String())
	require.Contains(t, out.String(), "| json | bare net/http handler | ")
	require.Contains(t, out.String(), "| 1000 | Accelerator, boltstore | InvalidateTag | ")
	require.NotContains(t, out.String(), "no row")

	require.Error(t, conduct(context.Background(), []string{"-servers", "squid"}, io.Discard, io.Discard))
	require.Error(t, conduct(context.Background(), []string{"-entries", "1"}, io.Discard, io.Discard))
}
