package life

import (
	"os"
	"testing"

	"github.com/virtrust/virtrust/integration/operator"
)

func TestMain(m *testing.M) { os.Exit(operator.Main(m)) }
