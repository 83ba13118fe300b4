# SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
#
# Asks a disk all that can be asked of one, and prints a line for each answer: `perl ioctls.pl /dev/NAME`.
# Nothing is loaded, so that the interpreter alone will do.

my ($disk) = @ARGV;
my $name = $disk =~ s|^/dev/||r;
$name = readlink("/sys/dev/block/" . device($disk)) =~ s|.*/||r;

sub device { my @s = stat($_[0]); my $d = $s[6]; return (($d >> 8) & 0xfff) . ":" . (($d & 0xff) | (($d >> 12) & 0xfff00)) }
sub say_it { print "$_[0] = $_[1]\n" }
sub answer { my ($ok, $value) = @_; return $ok ? $value : "errno " . ($! + 0) }

# Name, number, what is passed, and how the answer is read: nothing, as an unpack pattern, or by its length.
my @ioctls = (
    ["BLKROGET", 0x125e, "\0" x 4, "l"], ["BLKGETSIZE", 0x1260, "\0" x 8, "Q"], ["BLKGETSIZE64", 0x80081272, "\0" x 8, "Q"],
    ["BLKSSZGET", 0x1268, "\0" x 4, "l"], ["BLKPBSZGET", 0x127b, "\0" x 4, "L"], ["BLKBSZGET", 0x80081270, "\0" x 8, "l"],
    ["BLKIOMIN", 0x1278, "\0" x 4, "L"], ["BLKIOOPT", 0x1279, "\0" x 4, "L"], ["BLKALIGNOFF", 0x127a, "\0" x 4, "l"],
    ["BLKSECTGET", 0x1267, "\0" x 4, "S"], ["BLKRAGET", 0x1263, "\0" x 8, "Q"], ["BLKFRAGET", 0x1265, "\0" x 8, "Q"],
    ["BLKROTATIONAL", 0x127e, "\0" x 4, "S"], ["BLKDISCARDZEROES", 0x127c, "\0" x 4, "L"],
    ["BLKGETDISKSEQ", 0x80081280, "\0" x 8, ""],
    ["BLKGETZONESZ", 0x80041284, "\0" x 4, "L"], ["BLKGETNRZONES", 0x80041285, "\0" x 4, "L"],
    ["BLKREPORTZONE", 0xc0101282, pack("Q L L", 0, 1, 0) . "\0" x 64, ""],
    ["BLKRESETZONE", 0x40101283, pack("Q Q", 0, 8), ""],
    ["BLKDISCARD", 0x1277, pack("Q Q", 0, 4096), ""], ["BLKSECDISCARD", 0x127d, pack("Q Q", 0, 4096), ""],
    ["BLKZEROOUT", 0x127f, pack("Q Q", 0, 4096), ""],
    ["BLKRASET 64", 0x1262, 64, ""], ["BLKRAGET after it", 0x1263, "\0" x 8, "Q"],
    ["BLKBSZSET 1024", 0x40081271, pack("l", 1024), ""], ["BLKBSZGET after it", 0x80081270, "\0" x 8, "l"],
    ["BLKFLSBUF", 0x1261, 0, ""], ["BLKRRPART", 0x125f, 0, ""],
    ["BLKPG delete 1", 0x1269, pack("l l l x4 Q", 2, 0, 152, 0), ""],
    ["BLKTRACESTOP", 0x1275, 0, ""],
    ["FIFREEZE", 0xc0045877, "\0" x 4, ""], ["FITRIM", 0xc0185879, pack("Q Q Q", 0, 1 << 20, 0), ""],
    ["HDIO_GETGEO", 0x0301, "\0" x 16, "C C S"], ["HDIO_GET_IDENTITY", 0x030d, "\0" x 512, ""],
    ["SG_GET_VERSION_NUM", 0x2282, "\0" x 4, "l"], ["SG_IO", 0x2285, "\0" x 88, ""],
    ["SCSI_IOCTL_GET_BUS_NUMBER", 0x5386, "\0" x 4, ""], ["CDROM_GET_CAPABILITY", 0x5331, 0, ""], ["CDROMEJECT", 0x5309, 0, ""],
    ["NVME_IOCTL_ID", 0x4e40, 0, ""], ["LOOP_GET_STATUS64", 0x4c05, "\0" x 232, ""], ["LOOP_SET_BLOCK_SIZE", 0x4c09, 512, ""],
    ["IOC_PR_REGISTER", 0x401870c8, "\0" x 24, ""], ["IOC_PR_CLEAR", 0x401070cd, "\0" x 16, ""],
    ["IOC_OPAL_GET_STATUS", 0x800870ec, "\0" x 8, ""], ["NBD_DISCONNECT", 0xab08, 0, ""], ["an unknown one", 0xabcd, 0, ""],
    ["BLKROSET 0", 0x125d, pack("l", 0), ""], ["BLKROGET after it", 0x125e, "\0" x 4, "l"],
    ["BLKROSET 1", 0x125d, pack("l", 1), ""],
);

sysopen(my $reader, $disk, 0) or die "$disk: $!";
for my $row (@ioctls) {
    my ($what, $number, $passed, $pattern) = @$row;
    my $ok = ioctl($reader, $number, $passed);
    say_it($what, answer(defined $ok, $pattern eq "" ? "done" : join(" ", unpack($pattern, $passed))));
}

# Ways to open and to use it: nothing may write.
my %open = ("O_WRONLY" => 1, "O_RDWR" => 2, "O_RDWR O_EXCL" => 0202, "O_RDONLY O_EXCL" => 0200, "O_RDONLY O_TRUNC" => 01000);
for my $way (sort keys %open) {
    my $ok = sysopen(my $file, $disk, $open{$way});
    say_it("open $way", answer($ok, "done"));
    next unless $ok && $open{$way} & 3;
    say_it("write, opened $way", answer(defined syswrite($file, "x" x 512), "done"));
    # fallocate(): punch a hole, and keep the size.
    say_it("punch, opened $way", answer(syscall(285, fileno($file), 3, 0, 4096) == 0, "done"));
    say_it("fsync, opened $way", answer(syscall(74, fileno($file)) == 0, "done"));
}
for my $row (["SEEK_HOLE", 4], ["SEEK_DATA", 3], ["SEEK_END", 2]) {
    my $place = sysseek($reader, 0, $row->[1]);
    say_it("lseek $row->[0]", answer($place, ($place // 0) + 0));
}
my $count = sysread($reader, my $bytes, 4096);
say_it("read at the end", answer(defined $count, $count));
# preadv2(RWF_NOWAIT) of what is in the page cache by now, past the cache, and to an odd address.
sysseek($reader, 0, 0);
sysread($reader, $bytes, 4096);
my $buffer = "\0" x 4096;
my $vector = pack("p Q", $buffer, 4096);
my $got = syscall(327, fileno($reader), $vector, 1, 0, 0, 8);
say_it("preadv2 RWF_NOWAIT, cached", answer($got >= 0, $got));

# What sysfs says of it and of its queue, but for numbers of devices, and counts.
my %own = map { $_ => 1 } ("dev", "diskseq", "inflight", "stat", "uevent");
for my $place ("", "queue/", "integrity/", "mq/0/") {
    opendir(my $entries, "/sys/block/$name/$place") or next;
    for my $entry (sort readdir($entries)) {
        my $path = "/sys/block/$name/$place$entry";
        next if $own{$entry} || !-f $path || !-r _;
        open(my $file, "<", $path) or next;
        my $text = readline($file);
        say_it("sysfs $place$entry", answer(defined $text, ($text // "") =~ s/\s+/ /gr));
    }
}
