package accel_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/memstore"
)

// storeEnv names the store that the suite runs on: "boltstore", or memstore if it
// is not set.
const storeEnv = "ACCEL_TEST_STORE"

// newStore returns an empty store of the kind that the suite runs on. The one in memory
// lends each entry, to see that what is lent is sent whole, and not used any more when it
// is given back.
//
// In a synctest bubble that is always memstore. Boltstore has pools of timers and
// of channels, and one that was made in a bubble may not be used in another.
func newStore(t testing.TB) accel.Store {
	s := newPlainStore(t)
	if _, lends := s.(accel.Lender); lends {
		return s
	}
	return storetest.Lending(s)
}

// newPlainStore is newStore, for tests of what one that lends does not save.
func newPlainStore(t testing.TB) accel.Store {
	inBubble := time.Now().Year() == 2000
	if os.Getenv(storeEnv) == "boltstore" && !inBubble {
		return openBolt(t)
	}
	return memstore.New()
}

// The whole suite, once more, on boltstore. Left out are tests that choose their
// stores themselves, that are about keys or connections and take their time for
// it, and that count a store's bytes, of which a file has more for a moment.
func TestSuiteOnBoltstore(t *testing.T) {
	if os.Getenv(storeEnv) != "" || testing.Short() {
		t.Skip("on the other store, or short of time")
	}
	leftOut := []string{
		"TestPromise", "TestSecurity_D1_.*", "TestSecurity_D9_.*", "TestSecurity_K1_.*", "TestSecurity_R2_.*",
		"TestSecurity_S6_.*", "TestWire.*", "Example.*",
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0],
		"-test.skip=^("+strings.Join(leftOut, "|")+")$", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), storeEnv+"=boltstore")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s=boltstore: %v\n%s", storeEnv, err, out)
	}
}
