from emorl.commands.main import main

main()
