package point

import "slices"

// LineOf returns the line of a name; it panics if there is none.
func LineOf(name string) Line {
	i := slices.Index(lineNames[:], name)
	if i < 0 {
		panic("point: no line " + name)
	}
	return Line(i)
}

// String returns the name of the line in the code.
func (l Line) String() string { return lineNames[l] }

// Lines returns all lines.
func Lines() []Line {
	all := make([]Line, lines)
	for i := range all {
		all[i] = Line(i)
	}
	return all
}

var lineNames = [lines]string{
	PositionBeforeHandler: "PositionBeforeHandler",
	PositionBeforeLookUp:  "PositionBeforeLookUp",
	FollowerValid:         "FollowerValid",
	FollowerArrival:       "FollowerArrival",
	RenewalUnion:          "RenewalUnion",
	AdmitChecks:           "AdmitChecks",
	AdmitOneStep:          "AdmitOneStep",
	RenewalOldValid:       "RenewalOldValid",
	PromoteChecks:         "PromoteChecks",
	PromoteGeneration:     "PromoteGeneration",
	Generation:            "Generation",
	Horizon:               "Horizon",
	NumberLast:            "NumberLast",
	UpToLooked:            "UpToLooked",
	StrictlyLess:          "StrictlyLess",
	Floor:                 "Floor",
	SoftMarks:             "SoftMarks",
	FlightsHold:           "FlightsHold",
	QueueHolds:            "QueueHolds",
	DiskClean:             "DiskClean",
	DropUnchanged:         "DropUnchanged",
	MemoryChecks:          "MemoryChecks",
	QueueChecks:           "QueueChecks",
	DiskChecks:            "DiskChecks",
	MemoryGone:            "MemoryGone",
	ScanBeforeDrop:        "ScanBeforeDrop",
	SoftWritten:           "SoftWritten",
	FlushChecks:           "FlushChecks",
	DisplaceOlder:         "DisplaceOlder",
	QueueHides:            "QueueHides",
	HigherStays:           "HigherStays",
	PromoteTicket:         "PromoteTicket",
	RenewalOldThere:       "RenewalOldThere",
	AckAfterDurable:       "AckAfterDurable",
	SeqWritten:            "SeqWritten",
	MarksWritten:          "MarksWritten",
}
