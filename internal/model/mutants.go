package model

// A mutant is our protocol with flaws. If behind is not empty, the first flaw alone
// breaks nothing, because what behind says stands behind it; the other flaws take
// that away.
type mutant struct {
	name     string
	flaws    []flaw
	scenario string
	breaks   string
	behind   string
}

func just(name string, f flaw, scenario, breaks string) mutant {
	return mutant{name: name, flaws: []flaw{f}, scenario: scenario, breaks: breaks}
}

// mutants has everything that was thought of being left out.
var mutants = []mutant{
	// Positions.
	just("stamped when it is stored", stampedAtStore, "memory", promiseBroken),
	just("an invalidation does not raise the number", numberStays, "memory", promiseBroken),
	just("seq is not written: positions are used again after a crash", seqUnwritten, "crash", promiseBroken),
	just("a position of another epoch is stored", epochIgnored, "take-over of a file like new", promiseBroken),

	// Put.
	just("Put does not look at the marks", putUnchecked, "held positions", promiseBroken),
	{"check and Put are two steps", []flaw{checkedApart, endsAtTheCheck}, "memory", promiseBroken,
		"the position, which is held until Put has returned: so the mark is there for every look-up, and for the scan"},
	just("the horizon is not looked at", horizonIgnored, "held positions", promiseBroken),
	just("pruning does not raise the horizon", horizonStays, "held positions", promiseBroken),
	just("Put replaces a higher position", putsReplaceHigher, "order", orderBroken),
	just("Put does not ask what stands on disk", standingUnasked, "order", orderBroken),
	just("a Put takes no ticket", putWithoutTicket, "a Put that was asleep", orderBroken),
	just("the Put of a renewal takes no ticket", putWithoutTicket, "a renewal that was asleep", orderBroken),
	just("a Put takes its ticket after it has looked", ticketAfterLook, "a Put that was asleep", orderBroken),
	just("a Put that need not look does not ask whether that is still so", unlookedForGood, "a Put that was asleep", orderBroken),
	just("a Put looks at the disk, but not at the queue", putSeesNoQueue, "a Put that was asleep", orderBroken),
	just("the Put of a renewal looks at the disk, but not at the queue", putSeesNoQueue, "a renewal that was asleep", orderBroken),
	just("a dropped store leaves the older version on disk", droppedLeaves, "order", orderBroken),

	// Followers.
	just("followers take what comes", followersTakeAnything, "followers", promiseBroken),
	just("followers compare numbers of different epochs", followersIgnoreEpochs, "there and back, followed", promiseBroken),
	just("followers refuse if the last mark lies in (begin, join]", followersAskForTheLastMark, "followers", promiseBroken),

	just("followers take what is valid now", followersTakeTheValid, "expiry, followed", staleAsFresh),
	just("a process without the file has positions", beginsBlindly, "rolling restart, followed", promiseBroken),
	just("flights without a position are followed", sharesBlindly, "rolling restart, followed", promiseBroken),

	// Look-ups.
	{"an invalid newest version in memory lets an older one answer", []flaw{fallsThrough, queueFallsThrough}, "order", orderBroken,
		"the queue, which has the same version or a deletion for as long as the disk has an older one"},
	just("an invalid newest version in the queue lets an older one answer", queueFallsThrough, "order", orderBroken),
	just("an item that was removed answers", goneIgnored, "memory", promiseBroken),
	just("the generation is not compared", generationIgnored, "disk", promiseBroken),
	just("the generation is compared before the marks", generationFirst, "disk", promiseBroken),
	just("what a copy knows of being stale is read before the marks", staleReadEarly, "expiry in memory", staleAsFresh),
	just("memory answers while another process has the file", servedWithoutFile, "there and back", promiseBroken),

	// Promotion.
	just("promotion does not compare the generation", promotionIgnoresGeneration, "promotion", promiseBroken),
	just("promotion does not look at the marks", promotionUnchecked, "promotion", promiseBroken),
	just("promotion replaces what is there", promotionReplaces, "order of promotion", orderBroken),
	just("promotion does not see what came and went meanwhile", promotionWithoutTicket, "order of promotion", orderBroken),
	just("promotion takes its ticket after the look at the queue", ticketAfterQueue, "order of promotion", orderBroken),
	{"promotion does not look at the queue", []flaw{promotionOverQueue, promotionWithoutTicket}, "order of promotion", orderBroken,
		"the ticket, which every Put makes void"},
	just("promotion forgets that an entry is stale", promotedAsFresh, "expiry on disk", staleAsFresh),

	// Forgetting.
	{"marks are dropped while a response is in flight", []flaw{flightsHoldNothing, horizonStays}, "memory", promiseBroken,
		"the horizon: what began below a mark that was dropped is refused, whether it is struck or not"},
	just("marks are dropped while an older entry is queued", queueHoldsNothing, "disk", promiseBroken),
	just("marks are dropped while an older copy is on disk", prunedUnclean, "disk", promiseBroken),
	just("marks are dropped while an older copy is in memory", memoryUnscanned, "memory", promiseBroken),
	just("the scan leaves expired copies as fresh", scanLeavesFresh, "expiry in memory", staleAsFresh),
	just("a mark is dropped from memory though it has grown", droppedThoughGrown, "memory", promiseBroken),
	just("a mark counts as cleaned though it has grown", cleanedThoughGrown, "crash, two purges", promiseBroken),
	just("a mark counts as paid though it has grown", paidThoughGrown, "crash, two purges", promiseBroken),
	just("a queued position is never let go", neverReleased, "two leaders on disk", neverEnds),
	just("a hung handler holds its marks for ever", lapsesNever, "a handler hangs", neverEnds),

	// The writer.
	just("acknowledged before it is durable", acknowledgedEarly, "crash, two purges", promiseBroken),
	just("acknowledged while the file is being opened", acknowledgedWhileOpening, "while it is opened", promiseBroken),
	just("the debt is read before the waiters are claimed", debtBeforeClaim, "crash, two purges", promiseBroken),
	just("no mark is written", allNeedless, "crash, two purges", promiseBroken),
	just("a mark that stands on disk is overlooked", standingMarkOverlooked, "sweeping two keys", neverEnds),
	just("the queue outlives the purge", flushUnchecked, "disk", promiseBroken),
	just("an expired entry is written as fresh", flushedAsFresh, "expiry on disk", staleAsFresh),
	just("the writer replaces a higher position", flushReplacesHigher, "order, and the disk is slow", orderBroken),
	just("what is invalid at the flush leaves the older version on disk", invalidLeaves, "order", orderBroken),

	// The sweeper.
	just("sweeping deletes at a mark, not below it", sweepStrikesAt, "sweeping two keys", tooMuch),
	just("the mark is deleted after the first step", sweepStopsEarly, "sweeping two keys, the second is read", promiseBroken),
	just("a step of sweeping that failed is not done again", sweepMovesOn, "sweeping in two steps", promiseBroken),
	{"the mark is deleted from disk though it has grown", []flaw{markDeletedThoughGrown, sweepGoesOn}, "sweeping two keys", promiseBroken,
		"a sweep begins anew when its mark has grown, and marks are written by who sweeps"},
	{"a sweep goes on though its mark has grown", []flaw{sweepGoesOn, markDeletedThoughGrown}, "sweeping two keys", promiseBroken,
		"the mark is deleted only if it still is what was swept"},
	just("a soft mark is deleted before since when is written", expiryUnwritten, "expiry on disk", staleAsFresh),
	just("a soft mark needs no sweeping", softNeedsNoSweep, "expiry on disk", staleAsFresh),

	// Expiry.
	just("hard and soft are one mark", oneKindOfMark, "expiry in memory", promiseBroken),
	just("an expiry refuses a Put", expiryRefuses, "expiry in memory", tooMuch),

	// Renewals.
	just("a renewal's position is taken after its look-up", stampedAfterLookup, "renewal, followed", promiseBroken),
	{"a renewal does not ask whether the old entry is valid", []flaw{renewsTheStruck, stampedAfterLookup}, "renewal in memory", promiseBroken,
		"the position, which was taken before the look-up: what strikes the old entry since then strikes the new one"},
	just("a renewal does not ask whether the old entry is still there", renewsTheGone, "order of renewals", orderBroken),
	{"a renewal does not compare the generation", []flaw{renewalIgnoresGeneration, stampedAfterLookup}, "renewal on disk", promiseBroken,
		"the position, as above"},
	just("a renewal has its own tags only", renewalsLoseTags, "renewal in memory", promiseBroken),

	// Delete.
	just("a deletion is not queued", deletionUnqueued, "deletion", orderBroken),
	just("a deletion takes a store from the queue, and leaves what is on disk", deletionForgetsStore, "deletion", orderBroken),
	just("a deletion spares the copy in memory", deletionSparesMemory, "deletion", orderBroken),

	// The floor.
	just("the floor is not written", floorNotOwed, "floor", promiseBroken),
	just("marks are deleted before the floor that replaces them is written", floorAfterMarks, "floor", promiseBroken),
	just("too many marks make the oldest be forgotten", oldestForgotten, "too many marks", promiseBroken),

	// URLs.
	just("a variant lacks the mark of its URL", variantsWithoutURL, "a URL and its variants", promiseBroken),

	// When the disk fails.
	just("a failed transaction counts as committed", failureUnseen, "failures", promiseBroken),
	just("a failure takes the mark from memory", failureForgets, "failures", promiseBroken),
	just("what could not be written is not owed any more", debtPaidAtOnce, "failures", promiseBroken),
	just("set aside without syncing the directory", asideUnsynced, "failures", promiseBroken),

	// Opening.
	just("marks made without a file are forgotten", adoptionForgets, "take-over", promiseBroken),
	just("marks made without a file keep their numbers", adoptionKeepsNumbers, "take-over", promiseBroken),
	just("acknowledged though the path leads to another file", pathUnchecked, "the file is removed", promiseBroken),
	just("memory is kept when a file is taken over", adoptionKeepsMemory, "there and back", promiseBroken),
	just("a restored copy is believed", copyAdopted, "a copy is restored", promiseBroken),
	just("a file that was moved to the path is believed", anotherBelieved, "another file is moved to the path", promiseBroken),
	just("marks are not guarded", marksUnguarded, "a mark is lost", promiseBroken),
	just("a transaction that was lost is not noticed", rollbackBelieved, "a transaction is lost", promiseBroken),
}
