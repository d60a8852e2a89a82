package model

// A flaw is one thing that our protocol does and a mutant does not.
type flaw uint8

const (
	// Positions.
	stampedAtStore flaw = iota
	numberStays
	seqUnwritten
	epochIgnored

	// Put.
	putUnchecked
	checkedApart
	endsAtTheCheck
	horizonIgnored
	horizonStays
	putsReplaceHigher
	standingUnasked
	putWithoutTicket
	ticketAfterLook
	unlookedForGood
	putSeesNoQueue
	droppedLeaves

	// A cache without marks, or with marks that look-ups do not ask.
	blind
	noMarks
	cancelsIndexed
	deletesThenMarks

	// Followers.
	followersTakeAnything
	followersIgnoreEpochs
	followersAskForTheLastMark
	followersTakeTheValid
	beginsBlindly
	sharesBlindly

	// Look-ups.
	fallsThrough
	queueFallsThrough
	goneIgnored
	generationIgnored
	generationFirst
	staleReadEarly
	servedWithoutFile

	// Promotion.
	promotionIgnoresGeneration
	promotionUnchecked
	promotionReplaces
	promotionWithoutTicket
	ticketAfterQueue
	promotionOverQueue
	promotedAsFresh

	// Forgetting.
	flightsHoldNothing
	queueHoldsNothing
	neverReleased
	prunedUnclean
	memoryUnscanned
	scanLeavesFresh
	softNeedsNoSweep
	droppedThoughGrown
	cleanedThoughGrown
	paidThoughGrown
	lapsesNever

	// The writer.
	acknowledgedEarly
	acknowledgedWhileOpening
	debtBeforeClaim
	allNeedless
	standingMarkOverlooked
	flushUnchecked
	flushedAsFresh
	flushReplacesHigher
	invalidLeaves

	// The sweeper.
	sweepStrikesAt
	sweepStopsEarly
	sweepGoesOn
	sweepMovesOn
	markDeletedThoughGrown
	expiryUnwritten

	// Expiry.
	oneKindOfMark
	expiryRefuses

	// Renewals.
	stampedAfterLookup
	renewsTheStruck
	renewsTheGone
	renewalIgnoresGeneration
	renewalsLoseTags

	// Delete.
	deletionUnqueued
	deletionForgetsStore
	deletionSparesMemory

	// The floor.
	floorNotOwed
	floorAfterMarks
	oldestForgotten

	// URLs.
	variantsWithoutURL

	// When the disk fails.
	failureUnseen
	failureForgets
	debtPaidAtOnce
	asideUnsynced
	pathUnchecked

	// Opening.
	adoptionForgets
	adoptionKeepsNumbers
	adoptionKeepsMemory
	copyAdopted
	marksUnguarded
	rollbackBelieved
	anotherBelieved

	faultCount
)
