package inventory

// Bounds of a configuration. They are checked before a parser sees a byte or,
// for values, before a value is used.
const (
	maxFileBytes   = 1 << 20  // of one file, also of one read by file()
	maxTotalBytes  = 32 << 20 // of all files together
	maxFiles       = 256      // *.hcl and *.hcl.json of the directory, and read ones
	maxNesting     = 400      // open brackets plus operators waiting for an operand
	maxLoops       = 3        // for expressions inside each other
	maxNumberText  = 64       // characters of a number
	maxExponent    = 4096     // binary exponent of a number, either way
	maxValueBytes  = 8 << 20  // of one value
	maxElements    = 100_000  // of one value, nested ones included
	maxHosts       = 20_000   // after for_each
	maxReferences  = 200      // values that wait for each other
	maxFormatWidth = 1000     // of format's %NNNd
	maxDiagnostics = 1000     // recorded; what follows is counted
)
