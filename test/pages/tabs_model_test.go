package pages

import (
	"flag"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"testing"

	"gin-sse/test/internal/child"
	"gin-sse/test/internal/need"
)

var (
	modelSeed   = flag.Int("model.seed", 0, "run the model of tabs with this seed alone")
	modelRounds = flag.Int("model.rounds", 30, "random runs of the model of tabs")
)

func TestTabsThatComeAndGoAtRandomLoseNothingAndShareOneStream(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("node")
	if err != nil {
		need.Missing(t, "node", "apt-get install nodejs")
	}
	seed, rounds := *modelSeed, 1
	if seed == 0 {
		seed, rounds = rand.IntN(1_000_000_000), *modelRounds
	}
	run := child.Command(t.Context(), program, "testdata/tabs.mjs", "../../public/lib", strconv.Itoa(seed), strconv.Itoa(rounds))
	out, err := run.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}
